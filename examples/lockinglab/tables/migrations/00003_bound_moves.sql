-- +goose NO TRANSACTION
-- +goose Up
-- The same with foreign keys: each insert takes a shared lock on the accounts it names.
CREATE TABLE IF NOT EXISTS bound_moves (
  id     BIGINT NOT NULL AUTO_INCREMENT,
  ticket BIGINT NOT NULL,
  payer  BIGINT NULL,
  payee  BIGINT NULL,
  amount BIGINT NOT NULL,
  PRIMARY KEY (id),
  CONSTRAINT bound_moves_payer FOREIGN KEY (payer) REFERENCES accounts (id),
  CONSTRAINT bound_moves_payee FOREIGN KEY (payee) REFERENCES accounts (id)
) ENGINE=InnoDB;
