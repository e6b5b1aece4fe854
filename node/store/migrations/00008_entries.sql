-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS entries (
  account_id    BIGINT      NOT NULL,
  sequence      BIGINT      NOT NULL,
  transfer_id   CHAR(36)    NOT NULL,
  kind          VARCHAR(12) NOT NULL,
  amount        BIGINT      NOT NULL,
  currency      CHAR(3)     NOT NULL,
  balance_after BIGINT      NOT NULL,
  counterparty  VARCHAR(40) NOT NULL,
  created_at    DATETIME(6) NOT NULL,
  PRIMARY KEY (account_id, sequence),
  CONSTRAINT entries_amount CHECK (amount <> 0)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
