-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS tokens (
  id         CHAR(36)     NOT NULL,
  buyer      VARCHAR(64)  NOT NULL,
  state      VARCHAR(8)   NOT NULL,
  place      BIGINT       NOT NULL AUTO_INCREMENT,
  payment    CHAR(36)     NOT NULL DEFAULT '',
  expires_at DATETIME(6)  NULL,
  created_at DATETIME(6)  NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY tokens_place (place),
  KEY tokens_state (state, expires_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
