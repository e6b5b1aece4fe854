-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS audit_heads (
  node     INT        NOT NULL,
  sequence BIGINT     NOT NULL,
  hash     BINARY(32) NOT NULL,
  PRIMARY KEY (node)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
