-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS barriers (
  saga       VARCHAR(64) NOT NULL,
  step       VARCHAR(64) NOT NULL,
  operation  VARCHAR(4)  NOT NULL,
  claim      CHAR(26)    NOT NULL,
  created_at DATETIME(6) NOT NULL,
  PRIMARY KEY (saga, step, operation)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
