-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS remittance_statements (
  id        CHAR(36) NOT NULL,
  statement BLOB     NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
