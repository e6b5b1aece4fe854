-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS audit (
  sequence BIGINT     NOT NULL,
  entries  INT        NOT NULL,
  records  MEDIUMBLOB NOT NULL,
  previous BINARY(32) NOT NULL,
  hash     BINARY(32) NOT NULL,
  PRIMARY KEY (sequence)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
