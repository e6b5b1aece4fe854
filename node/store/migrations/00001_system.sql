-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS `system` (
  only  TINYINT     NOT NULL DEFAULT 1,
  id    VARCHAR(16) NOT NULL,
  epoch BIGINT      NOT NULL,
  state VARCHAR(16) NOT NULL,
  PRIMARY KEY (only),
  CONSTRAINT system_one_row CHECK (only = 1)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
