-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE remittances ADD COLUMN account_id BIGINT NULL, ADD KEY remittances_account (account_id, id);
