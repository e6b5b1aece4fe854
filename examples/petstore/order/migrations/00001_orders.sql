-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS orders (
  id             CHAR(36)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  customer       VARCHAR(64)  NOT NULL,
  wallet         VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  reference      VARCHAR(100) NOT NULL, -- the customer's own name for the order; may be empty
  live_reference VARCHAR(100) NULL,     -- the same until the order fails: no two live orders of a customer share one
  state          VARCHAR(12)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  total          BIGINT       NOT NULL, -- in the smallest unit
  currency       CHAR(3)      CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  transfer       VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  created_at     DATETIME(6)  NOT NULL,
  updated_at     DATETIME(6)  NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY orders_reference (customer, live_reference)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
