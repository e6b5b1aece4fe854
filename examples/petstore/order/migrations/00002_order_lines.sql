-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS order_lines (
  order_id CHAR(36)    NOT NULL,
  product  VARCHAR(64) NOT NULL,
  quantity BIGINT      NOT NULL,
  price    BIGINT      NOT NULL,
  PRIMARY KEY (order_id, product)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
