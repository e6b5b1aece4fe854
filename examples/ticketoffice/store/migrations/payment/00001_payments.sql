-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS payments (
  id          CHAR(36)     NOT NULL,
  sale        BLOB         NOT NULL,
  state       VARCHAR(8)   NOT NULL,
  reason      VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
  created_at  DATETIME(6)  NOT NULL,
  finished_at DATETIME(6)  NULL,
  PRIMARY KEY (id),
  KEY payments_state (state, created_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
