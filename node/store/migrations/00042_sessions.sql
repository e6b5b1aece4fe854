-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS sessions (
  id           CHAR(36)     NOT NULL,
  user_id      VARCHAR(40)  NOT NULL,
  began_by     VARCHAR(255) NOT NULL,
  address      VARCHAR(64)  NOT NULL,
  agent        VARCHAR(200) NOT NULL,
  created_at   DATETIME(6)  NOT NULL,
  refreshed_at DATETIME(6)  NOT NULL,
  expires_at   DATETIME(6)  NOT NULL,
  ended_at     DATETIME(6)  NULL,
  ended_why    VARCHAR(20)  NULL,
  PRIMARY KEY (id),
  KEY sessions_user (user_id, expires_at),
  KEY sessions_end (expires_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
