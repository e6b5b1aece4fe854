-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS daily_limits (
  account_id BIGINT      NOT NULL,
  daily_out  BIGINT      NULL,
  day_began  DATETIME(6) NOT NULL,
  used       BIGINT      NOT NULL,
  since      DATETIME(6) NOT NULL,
  PRIMARY KEY (account_id),
  CONSTRAINT daily_limits_out CHECK (daily_out IS NULL OR daily_out BETWEEN 0 AND 1000000000000000),
  CONSTRAINT daily_limits_used CHECK (used >= 0)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
