-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS charges (
  payment     CHAR(36)    NOT NULL,
  sale        BLOB        NOT NULL,
  hold_key    VARCHAR(64) NOT NULL,
  capture_key VARCHAR(64) NOT NULL,
  void_key    VARCHAR(64) NOT NULL,
  state       VARCHAR(8)  NOT NULL,
  hold        VARCHAR(36) NOT NULL DEFAULT '',
  created_at  DATETIME(6) NOT NULL,
  PRIMARY KEY (payment)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
