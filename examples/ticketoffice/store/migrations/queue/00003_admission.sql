-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS admission (
  id TINYINT NOT NULL, -- 1, whose lock whoever admits has to have
  PRIMARY KEY (id)
) ENGINE=InnoDB;
