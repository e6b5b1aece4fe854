-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS webhook_deliveries (
  sequence    BIGINT       NOT NULL AUTO_INCREMENT,
  id          CHAR(36)     NOT NULL,
  webhook     CHAR(36)     NOT NULL,
  object      VARCHAR(64)  NOT NULL,
  event       VARCHAR(32)  NOT NULL,
  payload     BLOB         NOT NULL,
  state       VARCHAR(10)  NOT NULL,
  attempts    INT          NOT NULL,
  next_at     DATETIME(6)  NOT NULL,
  since       DATETIME(6)  NOT NULL,
  status      SMALLINT     NULL,
  reason      VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  created_at  DATETIME(6)  NOT NULL,
  finished_at DATETIME(6)  NULL,
  PRIMARY KEY (sequence),
  UNIQUE KEY webhook_deliveries_id (id),
  KEY webhook_deliveries_due (state, next_at),
  KEY webhook_deliveries_object (webhook, object, sequence),
  KEY webhook_deliveries_list (webhook, sequence)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
