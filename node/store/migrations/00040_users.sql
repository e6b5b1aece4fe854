-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS users (
  id            VARCHAR(40)   NOT NULL,
  username      VARCHAR(40)   NULL,
  password_hash VARCHAR(200)  NULL,
  role          VARCHAR(16)   NOT NULL,
  name          VARCHAR(200)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  email         VARCHAR(320)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  picture       VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  created_at    DATETIME(6)   NOT NULL,
  disabled_at   DATETIME(6)   NULL,
  PRIMARY KEY (id),
  UNIQUE KEY users_username (username)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
