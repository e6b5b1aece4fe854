-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE transfers ADD COLUMN room VARBINARY(64) NULL;
