-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS products (
  id      VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  name    VARCHAR(200) NOT NULL,
  price   BIGINT       NOT NULL, -- of one, in the smallest unit of the store's currency
  stocked BIGINT       NOT NULL, -- all that ever came in
  stock   BIGINT       NOT NULL, -- what is on the shelf: stocked less reserved and sold
  PRIMARY KEY (id),
  CONSTRAINT products_stock CHECK (stock >= 0 AND stock <= stocked),
  CONSTRAINT products_price CHECK (price > 0)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
