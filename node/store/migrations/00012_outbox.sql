-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS outbox (
  id          CHAR(36)    NOT NULL,
  destination VARCHAR(16) NOT NULL,
  events      MEDIUMBLOB  NOT NULL,
  created_at  DATETIME(6) NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
