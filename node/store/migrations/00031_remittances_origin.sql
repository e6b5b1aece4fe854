-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE remittances ADD COLUMN origin VARCHAR(2000) NULL;
