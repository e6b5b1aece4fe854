-- +goose NO TRANSACTION
-- +goose Up
INSERT INTO admission (id) VALUES (1) ON DUPLICATE KEY UPDATE id = 1;
