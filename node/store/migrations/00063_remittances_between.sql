-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE remittances ADD KEY remittances_between (payer_system, payee_system, id);
