-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS accounts (
  id              BIGINT       NOT NULL,
  owner           VARCHAR(100) NOT NULL,
  currency        CHAR(3)      NOT NULL,
  label           VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  status          VARCHAR(8)   NOT NULL,
  posted          BIGINT       NOT NULL,
  pending_debit   BIGINT       NOT NULL,
  pending_credit  BIGINT       NOT NULL,
  overdraft_limit BIGINT       NOT NULL,
  version         BIGINT       NOT NULL,
  system_account  INT          NULL,
  node            INT          NULL,
  lane            INT          NULL,
  created_at      DATETIME(6)  NOT NULL,
  PRIMARY KEY (id),
  KEY accounts_owner (owner, id),
  CONSTRAINT accounts_available CHECK (system_account IS NOT NULL OR posted - pending_debit + overdraft_limit >= 0),
  CONSTRAINT accounts_pending CHECK (pending_debit >= 0 AND pending_credit >= 0),
  CONSTRAINT accounts_range CHECK (posted + pending_credit <= 9000000000000000000 AND posted >= -9000000000000000000),
  CONSTRAINT accounts_overdraft CHECK (overdraft_limit BETWEEN 0 AND 1000000000000000)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
