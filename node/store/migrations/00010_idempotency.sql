-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS idempotency (
  claim        CHAR(64)     NOT NULL,
  principal    VARCHAR(100) NOT NULL,
  route        VARCHAR(100) NOT NULL,
  idem_key     VARCHAR(255) NOT NULL,
  fingerprint  BINARY(32)   NOT NULL,
  command_id   CHAR(36)     NOT NULL,
  transfer_id  CHAR(36)     NULL,
  renderer     INT          NULL,
  status       INT          NULL,
  location     VARCHAR(255) NULL,
  content_type VARCHAR(64)  NULL,
  body         MEDIUMBLOB   NULL,
  language     VARCHAR(8)   NOT NULL,
  request_id   VARCHAR(64)  NOT NULL,
  created_at   DATETIME(6)  NOT NULL,
  PRIMARY KEY (claim)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
