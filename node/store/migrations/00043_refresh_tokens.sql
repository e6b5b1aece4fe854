-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS refresh_tokens (
  hash       BINARY(32)  NOT NULL,
  session_id CHAR(36)    NOT NULL,
  created_at DATETIME(6) NOT NULL,
  used_at    DATETIME(6) NULL,
  expires_at DATETIME(6) NOT NULL,
  PRIMARY KEY (hash),
  KEY refresh_tokens_end (expires_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
