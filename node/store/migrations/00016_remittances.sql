-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS remittances (
  id           CHAR(36)    NOT NULL,
  payer_system VARCHAR(16) NOT NULL,
  payee_system VARCHAR(16) NOT NULL,
  state        VARCHAR(12) NOT NULL,
  payer_epoch  BIGINT      NOT NULL,
  payee_epoch  BIGINT      NOT NULL,
  expires_at   DATETIME(6) NOT NULL,
  failure      VARCHAR(40) NOT NULL,
  language     VARCHAR(8)  NOT NULL,
  request_id   VARCHAR(64) NOT NULL,
  created_at   DATETIME(6) NOT NULL,
  finished_at  DATETIME(6) NULL,
  credited_at  DATETIME(6) NULL,
  statement    BLOB        NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
