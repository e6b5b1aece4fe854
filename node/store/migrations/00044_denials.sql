-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS denials (
  session_id CHAR(36)    NOT NULL,
  denied_at  DATETIME(6) NOT NULL,
  until_at   DATETIME(6) NOT NULL,
  PRIMARY KEY (session_id),
  KEY denials_denied (denied_at),
  KEY denials_end (until_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
