-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE remittances ADD COLUMN room VARBINARY(64) NULL;
