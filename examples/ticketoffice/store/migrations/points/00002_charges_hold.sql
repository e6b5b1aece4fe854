-- +goose NO TRANSACTION
-- +goose Up
CREATE INDEX charges_hold ON charges (hold);
