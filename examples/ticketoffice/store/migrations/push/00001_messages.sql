-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS messages (
  payment    CHAR(36)     NOT NULL,
  buyer      VARCHAR(64)  NOT NULL,
  text       VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  created_at DATETIME(6)  NOT NULL,
  PRIMARY KEY (payment)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
