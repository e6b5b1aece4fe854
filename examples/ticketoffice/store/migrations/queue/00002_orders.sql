-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS orders (
  payment    CHAR(36)    NOT NULL,
  sale       BLOB        NOT NULL,
  created_at DATETIME(6) NOT NULL,
  PRIMARY KEY (payment)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
