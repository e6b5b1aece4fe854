-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS inbox (
  consumer   VARCHAR(64) NOT NULL,
  event      VARCHAR(64) NOT NULL,
  claim      CHAR(26)    NOT NULL,
  created_at DATETIME(6) NOT NULL,
  PRIMARY KEY (consumer, event),
  KEY inbox_age (created_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
