-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS reserved_items (
  reservation CHAR(36)    NOT NULL,
  product     VARCHAR(64) NOT NULL,
  quantity    BIGINT      NOT NULL,
  PRIMARY KEY (reservation, product)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
