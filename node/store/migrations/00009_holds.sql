-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS holds (
  id          CHAR(36)    NOT NULL,
  account_id  BIGINT      NOT NULL,
  to_number   VARCHAR(40) NOT NULL,
  amount      BIGINT      NOT NULL,
  currency    CHAR(3)     NOT NULL,
  state       VARCHAR(12) NOT NULL,
  captured    BIGINT      NOT NULL,
  expires_at  DATETIME(6) NOT NULL,
  created_at  DATETIME(6) NOT NULL,
  PRIMARY KEY (id),
  KEY holds_expiry (state, expires_at),
  KEY holds_account (account_id, id),
  CONSTRAINT holds_amount CHECK (amount BETWEEN 1 AND 1000000000000000 AND captured BETWEEN 0 AND amount)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
