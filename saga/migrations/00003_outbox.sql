-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS outbox (
  id          CHAR(36)     NOT NULL,
  destination VARCHAR(200) NOT NULL,
  events      MEDIUMBLOB   NOT NULL,
  attempt     INT          NOT NULL DEFAULT 0,
  next_at     DATETIME(6)  NOT NULL,
  reason      VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
  parked_at   DATETIME(6)  NULL,
  created_at  DATETIME(6)  NOT NULL,
  PRIMARY KEY (id),
  KEY outbox_due (parked_at, next_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
