-- +goose NO TRANSACTION
-- +goose Up
UPDATE remittances r JOIN transfers t ON t.id = r.id AND t.payer_system = r.payer_system JOIN `system` s ON s.only = 1
  SET r.account_id = CAST(LEFT(SUBSTRING_INDEX(IF(r.payer_system = s.id, t.from_number, t.to_number), '-', -1), 12) AS SIGNED)
  WHERE r.account_id IS NULL;
