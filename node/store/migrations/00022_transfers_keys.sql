-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE transfers DROP KEY transfers_payer, DROP KEY transfers_payee;
