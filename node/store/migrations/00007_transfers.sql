-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS transfers (
  id           CHAR(36)     NOT NULL,
  payer_system VARCHAR(16)  NOT NULL,
  kind         VARCHAR(12)  NOT NULL,
  state        VARCHAR(12)  NOT NULL,
  from_number  VARCHAR(40)  NOT NULL,
  to_number    VARCHAR(40)  NOT NULL,
  payer_id     BIGINT       NULL,
  payee_id     BIGINT       NULL,
  amount       BIGINT       NOT NULL,
  currency     CHAR(3)      NOT NULL,
  description  VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  reference    VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  hold_id      CHAR(36)     NULL,
  created_at   DATETIME(6)  NOT NULL,
  finished_at  DATETIME(6)  NULL,
  PRIMARY KEY (id, payer_system),
  KEY transfers_payer (payer_id, id),
  KEY transfers_payee (payee_id, id),
  CONSTRAINT transfers_amount CHECK (amount BETWEEN 1 AND 1000000000000000)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
