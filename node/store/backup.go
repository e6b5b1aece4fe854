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
	"strings"
	"time"
)

// A backup is a text of one line each: a header, INSERT statements, and an end with the hash of all before it, so that a
// file that was cut is known before anything is replaced by it. Keys and secrets are in it as the database keeps them:
// sealed or hashed. What belongs to running processes (nodes, lanes) is not, nor is the schema, which migrations make.
const (
	backupHeader = "-- lockstep backup 1 "
	backupEnd    = "-- end "

	insertInto = "INSERT" + " INTO `" // a backup's line; the table's name follows

	lineBytesMax = 512 << 10 // an INSERT ends above this
	lineMax      = 64 << 20  // one line of a file that is read
)

// Snapshot says what a backup is of.
type Snapshot struct {
	System   string    `json:"system"`
	Epoch    int64     `json:"epoch"`
	Schema   int64     `json:"schema"`   // version of the newest migration
	Position string    `json:"position"` // a GTID that the snapshot has reached
	TakenAt  time.Time `json:"taken_at"` // by this machine's clock
}

// trailer is the last line.
type trailer struct {
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256"`
}

// Progress hears of each table when it is done.
type Progress func(table string, rows int64)

// Backup writes all that a system is into out, from one REPEATABLE READ snapshot of the source: nodes go on meanwhile.
func Backup(ctx context.Context, config Config, out io.Writer, progress Progress) (Snapshot, error) {
	db, err := openForBackup(config)
	if err != nil {
		return Snapshot{}, err
	}
	defer db.Close()
	d := &dumper{out: bufio.NewWriterSize(out, lineBytesMax), progress: progress}
	if d.snapshot, err = describe(ctx, db, config.System); err != nil {
		return Snapshot{}, err
	}
	d.tx, err = db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return Snapshot{}, fmt.Errorf("open the snapshot: %w", err)
	}
	defer func() { _ = d.tx.Rollback() }()
	return d.snapshot, d.dump(ctx)
}

// openForBackup connects without the limits of serving: a table takes its time.
func openForBackup(config Config) (*sql.DB, error) {
	config.ReadMax, config.WriteMax = migrationReadMax, migrationReadMax
	parsed, err := config.parseDSN(config.Source)
	if err != nil {
		return nil, err
	}
	parsed.ParseTime = false // times as the server writes them
	return pool(parsed, mariaDB(), 2)
}

func describe(ctx context.Context, db *sql.DB, system string) (Snapshot, error) {
	snapshot := Snapshot{TakenAt: time.Now().UTC().Truncate(time.Second)}
	dialect, err := detect(ctx, db)
	if err != nil {
		return Snapshot{}, err
	}
	var position sql.NullString
	if err := db.QueryRowContext(ctx, dialect.position).Scan(&position); err != nil {
		return Snapshot{}, fmt.Errorf("ask the source for its position: %w", err)
	}
	snapshot.Position = position.String
	row := db.QueryRowContext(ctx, "SELECT id, epoch, (SELECT MAX(version_id) FROM goose_db_version WHERE is_applied) FROM `system` WHERE state <> ?", stateRestoring)
	if err := row.Scan(&snapshot.System, &snapshot.Epoch, &snapshot.Schema); err != nil {
		return Snapshot{}, fmt.Errorf("read which system the database belongs to, and that it is whole: %w", err)
	}
	if snapshot.System != system {
		return Snapshot{}, fmt.Errorf("the database belongs to system %q, not %q", snapshot.System, system)
	}
	return snapshot, nil
}

// dumper writes one backup.
type dumper struct {
	tx       *sql.Tx
	out      *bufio.Writer
	progress Progress
	snapshot Snapshot
	rows     int64
}

func (d *dumper) dump(ctx context.Context) error {
	hash := sha256.New()
	file := d.out
	d.out = bufio.NewWriterSize(io.MultiWriter(file, hash), lineBytesMax)
	if err := d.mark(backupHeader, d.snapshot); err != nil {
		return err
	}
	for _, table := range []string{
		"signing_keys", "peer_keys", "clients", "users", "identities", "serials", "accounts", "daily_limits", "audit", "audit_heads", "holds",
		"transfers", "entries", "idempotency", "peers", "exposures", "remittances", "remittance_statements", "remittance_looks", "peer_nonces",
		"reconciliations", "webhooks", "webhook_deliveries", "sagas", "barriers", "saga_outbox", "saga_inbox",
	} {
		if err := d.table(ctx, table); err != nil {
			return fmt.Errorf("back up %s: %w", table, err)
		}
	}
	if err := d.out.Flush(); err != nil {
		return err
	}
	d.out = file
	return errors.Join(d.mark(backupEnd, trailer{d.rows, hex.EncodeToString(hash.Sum(nil))}), file.Flush())
}

func (d *dumper) mark(kind string, what any) error {
	text, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	_, err = fmt.Fprintf(d.out, "%s%s\n", kind, text)
	return err
}

func (d *dumper) table(ctx context.Context, table string) error {
	rows, err := d.tx.QueryContext(ctx, "SELECT * FROM "+table)
	if err != nil {
		return err
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return err
	}
	write := newInsert(table, types, d.out)
	for rows.Next() {
		if err := rows.Scan(write.targets...); err != nil {
			return err
		}
		if err := write.row(); err != nil {
			return err
		}
	}
	if err := errors.Join(rows.Err(), write.end()); err != nil {
		return err
	}
	d.rows += write.rows
	if d.progress != nil {
		d.progress(table, write.rows)
	}
	return nil
}

// insert writes the rows of one table as few long INSERT statements.
type insert struct {
	out     *bufio.Writer
	begin   string
	binary  []bool
	number  []bool
	values  []sql.RawBytes
	targets []any
	open    int // bytes of the statement that is begun
	rows    int64
}

func newInsert(table string, types []*sql.ColumnType, out *bufio.Writer) *insert {
	i := &insert{out: out, values: make([]sql.RawBytes, len(types))}
	var names []string
	for at, column := range types {
		kind := column.DatabaseTypeName()
		names = append(names, "`"+column.Name()+"`")
		i.binary = append(i.binary, strings.Contains(kind, "BLOB") || strings.Contains(kind, "BINARY"))
		i.number = append(i.number, strings.HasSuffix(kind, "INT"))
		i.targets = append(i.targets, &i.values[at])
	}
	i.begin = insertInto + table + "` (" + strings.Join(names, ", ") + ") VALUES "
	return i
}

func (i *insert) row() error {
	text := make([]byte, 0, 256)
	for at, value := range i.values {
		if at > 0 {
			text = append(text, ',')
		}
		switch {
		case value == nil:
			text = append(text, "NULL"...)
		case i.number[at]:
			text = append(text, value...)
		case i.binary[at]:
			text = append(append(append(text, "x'"...), hex.EncodeToString(value)...), '\'')
		default:
			text = quote(text, value)
		}
	}
	separator := ",("
	if i.open == 0 {
		separator = i.begin + "("
	}
	i.rows++
	i.open += len(text)
	if _, err := i.out.WriteString(separator + string(text) + ")"); err != nil {
		return err
	}
	if i.open > lineBytesMax {
		return i.end()
	}
	return nil
}

func (i *insert) end() error {
	if i.open == 0 {
		return nil
	}
	i.open = 0
	return i.out.WriteByte('\n')
}

// quote writes a text on one line, as the servers read it under the SQL mode of our connections.
func quote(into []byte, value []byte) []byte {
	into = append(into, '\'')
	for _, c := range value {
		switch c {
		case '\'', '\\':
			into = append(into, '\\', c)
		case '\n':
			into = append(into, '\\', 'n')
		case '\r':
			into = append(into, '\\', 'r')
		case 0:
			into = append(into, '\\', '0')
		default:
			into = append(into, c)
		}
	}
	return append(into, '\'')
}
