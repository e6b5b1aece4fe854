-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS identities (
  issuer     VARCHAR(255) NOT NULL,
  subject    VARCHAR(255) NOT NULL,
  user_id    VARCHAR(40)  NOT NULL,
  created_at DATETIME(6)  NOT NULL,
  seen_at    DATETIME(6)  NOT NULL,
  PRIMARY KEY (issuer, subject),
  KEY identities_user (user_id)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
