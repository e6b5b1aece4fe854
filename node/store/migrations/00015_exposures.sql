-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS exposures (
  peer     VARCHAR(16) NOT NULL,
  currency CHAR(3)     NOT NULL,
  epoch    BIGINT      NOT NULL,
  cap      BIGINT      NULL,
  reserved BIGINT      NOT NULL,
  credited BIGINT      NOT NULL,
  posted   BIGINT      NOT NULL,
  settled  BIGINT      NOT NULL,
  PRIMARY KEY (peer, currency),
  CONSTRAINT exposures_reserved CHECK (reserved >= 0),
  CONSTRAINT exposures_cap CHECK (cap IS NULL OR cap >= 0)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
