-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS seats (
  concert     VARCHAR(64) NOT NULL,
  seat        INT         NOT NULL,
  price       BIGINT      NOT NULL,
  state       VARCHAR(9)  NOT NULL,
  reservation CHAR(36)    NOT NULL DEFAULT '',
  buyer       VARCHAR(64) NOT NULL DEFAULT '',
  payment     CHAR(36)    NOT NULL DEFAULT '',
  expires_at  DATETIME(6) NULL,
  PRIMARY KEY (concert, seat),
  KEY seats_state (concert, state, expires_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
