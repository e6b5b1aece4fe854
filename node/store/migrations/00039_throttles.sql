-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS throttles (
  bucket    BINARY(32)  NOT NULL,
  free_from DATETIME(6) NOT NULL,
  PRIMARY KEY (bucket),
  KEY throttles_free (free_from)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
