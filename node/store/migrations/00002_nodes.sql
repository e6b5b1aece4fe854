-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS nodes (
  id          INT          NOT NULL,
  incarnation CHAR(36)     NOT NULL,
  address     VARCHAR(255) NOT NULL,
  version     VARCHAR(64)  NOT NULL,
  state       VARCHAR(16)  NOT NULL,
  started_at  DATETIME(6)  NOT NULL,
  seen_at     DATETIME(6)  NOT NULL,
  lease_until DATETIME(6)  NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
