-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS webhooks (
  id          CHAR(36)       NOT NULL,
  principal   VARCHAR(100)   NOT NULL,
  owner       VARCHAR(100)   NOT NULL,
  url         VARCHAR(500)   NOT NULL,
  events      VARCHAR(500)   NOT NULL,
  description VARCHAR(100)   CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  secret      VARBINARY(200) NOT NULL,
  created_at  DATETIME(6)    NOT NULL,
  PRIMARY KEY (id),
  KEY webhooks_principal (principal, id),
  KEY webhooks_owner (owner)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
