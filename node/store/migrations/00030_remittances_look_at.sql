-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE remittances ADD COLUMN look_at DATETIME(6) NULL, ADD KEY remittances_open (look_at);
