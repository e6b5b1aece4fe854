-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS peer_nonces (
  keyid      VARCHAR(64)  NOT NULL,
  nonce      VARCHAR(100) NOT NULL,
  keep_until DATETIME(6)  NOT NULL,
  PRIMARY KEY (keyid, nonce),
  KEY peer_nonces_end (keep_until)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
