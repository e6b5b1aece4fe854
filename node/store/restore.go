package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// ErrNodesAlive says that nodes hold leases in a database that is to be replaced.
var ErrNodesAlive = errors.New("nodes of this system are running, or were until seconds ago")

// Restored says what a restore has put in place.
type Restored struct {
	Snapshot
	Rows  int64
	Began int64 // the epoch that the system is in now
}

// Restore replaces a system's data by a backup, over an account that may change the schema, and begins an epoch: the
// system is unreconciled then. The schema has to be there, as new as the backup's. It refuses a file that is not whole, or
// of another system, and, unless forced, a database with living nodes; forced, such nodes lose their lanes and end.
//
// Between its first change and its end nobody can open the database. A restore that died is run again.
func Restore(ctx context.Context, dsn, system string, in io.ReadSeeker, force bool, progress Progress, log *slog.Logger) (Restored, error) {
	snapshot, rows, err := inspectBackup(in)
	switch {
	case err != nil:
		return Restored{}, fmt.Errorf("read the backup: %w", err)
	case snapshot.System != system:
		return Restored{}, fmt.Errorf("the backup is of system %q, not of %q", snapshot.System, system)
	}
	s, err := openForRestore(ctx, dsn, system, log)
	if err != nil {
		return Restored{}, err
	}
	defer s.Close()
	if err := s.mayRestore(ctx, snapshot, force); err != nil {
		return Restored{}, err
	}
	if err := s.replace(ctx, snapshot, in, progress); err != nil {
		return Restored{}, fmt.Errorf("restore (the database is closed to nodes until it is run again): %w", err)
	}
	epoch, err := s.BeginEpoch(ctx)
	return Restored{snapshot, rows, epoch}, err
}

// inspectBackup reads a whole file: its header, and that its end fits.
func inspectBackup(in io.ReadSeeker) (snapshot Snapshot, rows int64, err error) {
	hash := sha256.New()
	var end trailer
	ended := false
	err = eachLine(in, func(line []byte) error {
		if text, is := strings.CutPrefix(string(line[:min(len(line), 200)]), backupEnd); is {
			ended = true
			return json.Unmarshal([]byte(text), &end)
		}
		ended = false
		hash.Write(line)
		return nil
	})
	if err != nil {
		return Snapshot{}, 0, err
	}
	if !ended || end.SHA256 != hex.EncodeToString(hash.Sum(nil)) {
		return Snapshot{}, 0, errors.New("the file is not a whole backup: its end is missing or does not fit what is before it")
	}
	first, err := bufio.NewReader(in).ReadString('\n')
	text, is := strings.CutPrefix(first, backupHeader)
	if err != nil || !is {
		return Snapshot{}, 0, errors.New("the file is no backup of this format")
	}
	if err := json.Unmarshal([]byte(text), &snapshot); err != nil {
		return Snapshot{}, 0, fmt.Errorf("read the header: %w", err)
	}
	return snapshot, end.Rows, nil
}

// eachLine reads a file from its beginning, and leaves it there.
func eachLine(in io.ReadSeeker, do func(line []byte) error) error {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 2*lineBytesMax), lineMax)
	lines.Split(wholeLines)
	for lines.Scan() {
		if err := do(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	_, err := in.Seek(0, io.SeekStart)
	return err
}

// wholeLines splits behind each line feed, which stays: the hash is over bytes.
func wholeLines(data []byte, atEnd bool) (int, []byte, error) {
	for i, c := range data {
		if c == '\n' {
			return i + 1, data[:i+1], nil
		}
	}
	if atEnd && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// openForRestore opens what a restore needs of a store: nothing looks after servers, and nothing is checked.
func openForRestore(ctx context.Context, dsn, system string, log *slog.Logger) (*Store, error) {
	config := Default()
	config.System, config.Source, config.Logger = system, dsn, log
	config.ReadMax, config.WriteMax, config.StatementMax = migrationReadMax, migrationReadMax, migrationReadMax/2
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	s := &Store{config: config, stop: func() {}}
	if err := s.openSource(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("restore: %w", err), s.Close())
	}
	return s, nil
}

// mayRestore refuses what is not to be replaced.
func (s *Store) mayRestore(ctx context.Context, snapshot Snapshot, force bool) error {
	if err := refuseOther(ctx, s.source, s.config.System); err != nil {
		return err
	}
	if err := checkSchema(ctx, s.source); err != nil {
		return err
	}
	var schema, alive int64
	row := s.source.QueryRowContext(ctx, "SELECT (SELECT MAX(version_id) FROM goose_db_version WHERE is_applied), (SELECT COUNT(*) FROM nodes WHERE lease_until > UTC_TIMESTAMP(6))")
	if err := row.Scan(&schema, &alive); err != nil {
		return fmt.Errorf("look at the database: %w", err)
	}
	switch {
	case snapshot.Schema > schema:
		return fmt.Errorf("the backup's schema has version %d, the database's only %d: run `lockstep migrate` of a program as new", snapshot.Schema, schema)
	case alive > 0 && !force:
		return fmt.Errorf("%w: %d of them; stop them first", ErrNodesAlive, alive)
	}
	return nil
}

// replace closes the database to nodes, empties it and fills it.
func (s *Store) replace(ctx context.Context, snapshot Snapshot, in io.ReadSeeker, progress Progress) error {
	conn, err := s.source.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.ExecContext(ctx, "UPDATE `system` SET epoch = GREATEST(epoch, ?), state = ? WHERE only = 1", snapshot.Epoch, stateRestoring)
	if err != nil {
		return fmt.Errorf("close the database to nodes: %w", err)
	}
	for _, table := range []string{
		"lanes", "nodes", // first: nodes that still run lose their lanes, and end
		"sessions", "refresh_tokens", "denials", "throttles", "login_states", // in no backup: everybody signs in again
		"signing_keys", "peer_keys", "clients", "users", "identities", "serials", "accounts", "daily_limits", "audit", "audit_heads", "holds",
		"transfers", "entries", "idempotency", "peers", "exposures", "remittances", "remittance_statements", "remittance_looks", "peer_nonces",
		"reconciliations", "webhooks", "webhook_deliveries", "sagas", "barriers", "saga_outbox", "saga_inbox",
	} {
		if _, err := conn.ExecContext(ctx, "TRUNCATE TABLE "+table); err != nil {
			return fmt.Errorf("empty %s: %w", table, err)
		}
	}
	return fill(ctx, conn, in, progress)
}

func fill(ctx context.Context, conn *sql.Conn, in io.ReadSeeker, progress Progress) error {
	current, count := "", int64(0)
	told := func(table string) {
		if current != "" && table != current && progress != nil {
			progress(current, count)
			count = 0
		}
		current = table
	}
	err := eachLine(in, func(line []byte) error {
		table, is := tableOf(line)
		if !is {
			return nil
		}
		told(table)
		found, err := execAll(ctx, conn, strings.TrimSuffix(string(line), "\n"), nil)
		if err != nil {
			return fmt.Errorf("fill %s: %w", table, err)
		}
		count += found[0]
		return nil
	})
	told("")
	return err
}

// tableOf is the table that a line fills; the header and the end fill none.
func tableOf(line []byte) (string, bool) {
	rest, is := strings.CutPrefix(string(line[:min(len(line), 100)]), insertInto)
	if !is {
		return "", false
	}
	table, _, _ := strings.Cut(rest, "`")
	return table, true
}
