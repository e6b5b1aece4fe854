-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS peer_keys (
  kid         VARCHAR(64)    NOT NULL,
  public_key  VARBINARY(64)  NOT NULL,
  private_key VARBINARY(256) NOT NULL,
  not_before  DATETIME(6)    NOT NULL,
  retired_at  DATETIME(6)    NULL,
  PRIMARY KEY (kid)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
