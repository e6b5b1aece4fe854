package stage

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// schemas are one for each process, each with an account that can reach no other.
type schemas struct {
	admin *sql.DB
	run   string
	parts []string
	dsn   map[string]string
}

// name of a part's schema, and of its account.
func (s *schemas) name(part string) string { return "tickets_" + s.run + "_" + part }

func (s *schemas) make(ctx context.Context, dsn string, parts []string) error {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return fmt.Errorf("read the server's DSN: %w", err)
	}
	if s.admin, err = sql.Open("mysql", dsn); err != nil {
		return err
	}
	s.run, s.dsn = strings.ToLower(rand.Text()[:6]), map[string]string{}
	for _, part := range parts {
		name, password := s.name(part), rand.Text()
		s.parts = append(s.parts, part)
		for _, statement := range []string{
			"CREATE DATABASE " + name + " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
			"CREATE USER '" + name + "'@'%' IDENTIFIED BY '" + password + "'",
			"GRANT ALL ON " + name + ".* TO '" + name + "'@'%'",
		} {
			if _, err := s.admin.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("make the schema of %s: %w", part, err)
			}
		}
		own := *config
		own.User, own.Passwd, own.DBName = name, password, name
		s.dsn[part] = own.FormatDSN()
	}
	return nil
}

func (s *schemas) drop() error {
	if s.admin == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var err error
	for _, part := range s.parts {
		_, dropErr := s.admin.ExecContext(ctx, "DROP DATABASE IF EXISTS "+s.name(part))
		_, userErr := s.admin.ExecContext(ctx, "DROP USER IF EXISTS '"+s.name(part)+"'@'%'")
		err = errors.Join(err, dropErr, userErr)
	}
	err = errors.Join(err, s.admin.Close())
	s.admin = nil
	return err
}
