-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS exports (
  payment    CHAR(36)    NOT NULL,
  concert    VARCHAR(64) NOT NULL,
  amount     BIGINT      NOT NULL,
  created_at DATETIME(6) NOT NULL,
  PRIMARY KEY (payment)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
