-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS clients (
  id          VARCHAR(64)  NOT NULL,
  name        VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  secret_hash BINARY(32)   NOT NULL,
  scopes      VARCHAR(500) NOT NULL,
  owner       VARCHAR(100) NOT NULL,
  created_at  DATETIME(6)  NOT NULL,
  rotated_at  DATETIME(6)  NULL,
  deleted_at  DATETIME(6)  NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
