-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS reservations (
  id          CHAR(36)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- the order's UUID
  state       VARCHAR(12)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  fingerprint CHAR(64)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- of what was asked for; empty in a tombstone
  answer      MEDIUMBLOB   NOT NULL,                                       -- what the request was answered with
  why         VARCHAR(500) NOT NULL DEFAULT '',
  created_at  DATETIME(6)  NOT NULL,
  updated_at  DATETIME(6)  NOT NULL,
  PRIMARY KEY (id),
  KEY reservations_age (created_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
