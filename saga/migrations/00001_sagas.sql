-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS sagas (
  id          VARCHAR(64)  NOT NULL,
  kind        VARCHAR(32)  NOT NULL,
  state       VARCHAR(12)  NOT NULL,
  step        VARCHAR(64)  NOT NULL DEFAULT '',
  attempt     INT          NOT NULL DEFAULT 0,
  next_at     DATETIME(6)  NOT NULL,
  lease_owner VARCHAR(64)  NOT NULL DEFAULT '',
  lease_until DATETIME(6)  NULL,
  deadline    DATETIME(6)  NULL,
  reason      VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
  cause       VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
  parked_from VARCHAR(12)  NOT NULL DEFAULT '',
  data        MEDIUMBLOB   NOT NULL,
  created_at  DATETIME(6)  NOT NULL,
  updated_at  DATETIME(6)  NOT NULL,
  PRIMARY KEY (id),
  KEY sagas_due (state, next_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
