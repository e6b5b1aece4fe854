-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS login_states (
  state_hash BINARY(32)  NOT NULL,
  ends_at    DATETIME(6) NOT NULL,
  PRIMARY KEY (state_hash),
  KEY login_states_ends (ends_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
