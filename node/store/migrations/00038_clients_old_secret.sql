-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE clients ADD COLUMN old_secret_hash BINARY(32) NULL, ADD COLUMN old_secret_until DATETIME(6) NULL;
