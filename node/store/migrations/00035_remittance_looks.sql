-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS remittance_looks (
  id          CHAR(36)    NOT NULL,
  look_at     DATETIME(6) NOT NULL,
  remittances MEDIUMTEXT  NOT NULL,
  PRIMARY KEY (id),
  KEY remittance_looks_due (look_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
