-- Reconciliations read by primary key; the index was only paid for, four times by every transfer between systems.
-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE remittances DROP KEY remittances_between;
