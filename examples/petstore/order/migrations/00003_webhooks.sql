-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS webhooks (
  url    VARCHAR(500) NOT NULL, -- where the payment system sends to
  id     VARCHAR(64)  NOT NULL, -- of the webhook there
  secret VARCHAR(200) NOT NULL, -- under which it signs
  PRIMARY KEY (url)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
