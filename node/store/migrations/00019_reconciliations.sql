-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS reconciliations (
  peer     VARCHAR(16) NOT NULL,
  epoch    BIGINT      NOT NULL,
  ended_at DATETIME(6) NOT NULL,
  PRIMARY KEY (peer)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
