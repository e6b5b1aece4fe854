-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS peers (
  id         VARCHAR(16)   NOT NULL,
  settlement INT           NOT NULL,
  base_url   VARCHAR(255)  NOT NULL,
  jwks       VARCHAR(4000) NOT NULL,
  epoch      BIGINT        NOT NULL,
  created_at DATETIME(6)   NOT NULL,
  changed_at DATETIME(6)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY peers_settlement (settlement),
  CONSTRAINT peers_serial CHECK (settlement BETWEEN 10 AND 999)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
