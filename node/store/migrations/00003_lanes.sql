-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS lanes (
  node        INT      NOT NULL,
  lane        INT      NOT NULL,
  incarnation CHAR(36) NOT NULL,
  batch       BIGINT   NOT NULL,
  PRIMARY KEY (node, lane)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
