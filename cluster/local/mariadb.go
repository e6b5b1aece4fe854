package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"lockstep/cluster/local/process"
	"lockstep/deploy"
)

// schemaName is the schema of a payment system, and part of its accounts' names.
const schemaName = "lockstep"

// The accounts of every server. Nodes have no DDL rights, so that a statement
// slipped into one cannot drop a table.
const (
	accountRoot    = "root"
	accountNode    = "lockstep"
	accountRead    = "lockstep_read"
	accountMigrate = "lockstep_migrate"
	accountReplica = "lockstep_replica"
)

// mariadb is one MariaDB server of a system.
type mariadb struct {
	dir     string // holds data, configuration and the first SQL
	config  deploy.MariaDB
	secrets systemSecrets
	schemas string // pattern of the schemas that the accounts may use
}

// prepare makes the data directory if there is none, and writes the
// configuration, which may have changed since the last start.
func (m *mariadb) prepare(ctx context.Context) error {
	m.config.TempDir = filepath.Join(m.dir, "tmp")
	for _, dir := range []string{m.dir, m.config.TempDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the directory of MariaDB: %w", err)
		}
	}
	owner, err := dataOwner(m.dir)
	if err != nil {
		return err
	}
	m.config.User, m.config.DataDir = owner.name, filepath.Join(m.dir, "data")
	m.config.InitFile = filepath.Join(m.dir, "accounts.sql")
	if err := m.install(ctx); err != nil {
		return err
	}
	if err := replaceFile(m.config.InitFile, []byte(m.accounts())); err != nil {
		return err
	}
	var config strings.Builder
	if err := m.config.Render(&config); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(m.dir, "my.cnf"), []byte(config.String())); err != nil {
		return err
	}
	return owner.take(m.config.DataDir, m.config.TempDir, m.config.InitFile)
}

// forgetSource removes the files in which a replica notes where its source is. The server does not sync them, so that a power cut may
// leave half of one, and then it refuses even to be told anew. How far it has come stands in a table, and each start points it at
// its source again.
func (m *mariadb) forgetSource() error {
	var all error
	for _, name := range []string{"master.info", "relay-log.info"} {
		if err := os.Remove(filepath.Join(m.config.DataDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, fmt.Errorf("forget the source: %w", err))
		}
	}
	return all
}

// install fills a fresh data directory under another name first, so that a crash
// on the way leaves nothing that looks whole.
func (m *mariadb) install(ctx context.Context) error {
	if _, err := os.Stat(m.config.DataDir); err == nil {
		return nil
	}
	fresh := m.config.DataDir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("clear an unfinished data directory: %w", err)
	}
	if err := m.fill(ctx, filepath.Base(fresh)); err != nil {
		return err
	}
	if err := os.Rename(fresh, m.config.DataDir); err != nil {
		return fmt.Errorf("make the data directory of MariaDB: %w", err)
	}
	return nil
}

// fill makes the system tables in a data directory, given by its name below ours.
func (m *mariadb) fill(ctx context.Context, name string) error {
	program, err := process.Find("mariadb-install-db")
	if err != nil {
		return err
	}
	// The installing script breaks paths at blanks, so it gets one without.
	links, err := os.MkdirTemp("", "lockstep")
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	defer os.RemoveAll(links)
	link := filepath.Join(links, "mariadb")
	if err := os.Symlink(m.dir, link); err != nil {
		return fmt.Errorf("make a temporary link: %w", err)
	}
	args := []string{
		"--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
		"--innodb-log-file-size=" + strconv.Itoa(m.config.LogFileMB) + "M",
		"--datadir=" + filepath.Join(link, name), "--tmpdir=" + filepath.Join(link, "tmp"),
	}
	if os.Getuid() == 0 {
		args = append(args, "--user=root") // whoever owns it later gets it by take
	}
	if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("make the data directory of MariaDB: %w:\n%s", err, errorLines(out))
	}
	return nil
}

// errorLines leaves out the pages of advice around what went wrong.
func errorLines(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	errors := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.Contains(l, "ERROR") })
	if len(errors) == 0 {
		errors = lines[max(0, len(lines)-logTailMax):]
	}
	return strings.Join(errors, "\n")
}

// accounts is the SQL that the server runs at each start before it listens: it is
// never reachable without a password. The statements stay out of the binary log,
// for a replica runs its own and must have no transactions that its source lacks.
func (m *mariadb) accounts() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+";\n", args...) }
	line("SET SESSION sql_log_bin = 0")
	for _, a := range []struct{ name, password, rights, on string }{
		{accountRoot, m.secrets.Root, "ALL PRIVILEGES", "*.*"},
		{accountNode, m.secrets.Node, "SELECT, INSERT, UPDATE, DELETE", "`" + m.schemas + "`.*"},
		{accountRead, m.secrets.Read, "SELECT", "`" + m.schemas + "`.*"},
		{accountRead, m.secrets.Read, "SLAVE MONITOR", "*.*"},
		{accountMigrate, m.secrets.Migrate, "ALL PRIVILEGES", "`" + m.schemas + "`.*"},
		{accountReplica, m.secrets.Replica, "REPLICATION SLAVE", "*.*"},
	} {
		line("CREATE USER IF NOT EXISTS '%s'@'127.0.0.1'", a.name)
		line("ALTER USER '%s'@'127.0.0.1' IDENTIFIED BY '%s'", a.name, a.password)
		line("GRANT %s ON %s TO '%s'@'127.0.0.1'", a.rights, a.on, a.name)
	}
	line("GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION")
	line("ALTER USER 'root'@'localhost' IDENTIFIED BY '%s'", m.secrets.Root)
	return b.String()
}

func (m *mariadb) probe(ctx context.Context) error {
	return m.asRoot(func(db *sql.DB) error { return db.PingContext(ctx) })
}

// statementMax is the longest that a statement of the supervisor may take where no context ends it sooner. To point a replica at
// its source took more than 10 s on a disk that several starting clusters shared.
const statementMax = 30 * time.Second

// dsn names one of the accounts, for the lines of a configuration file.
func (m *mariadb) dsn(account, password, schema string) string {
	return dsnAt(address(m.config.Port), account, password, schema)
}

func dsnAt(address, account, password, schema string) string {
	return fmt.Sprintf("%s:%s@tcp(%s)/%s", account, password, address, schema)
}

func (m *mariadb) rootDSN(schema string) string { return m.dsn(accountRoot, m.secrets.Root, schema) }

// asRoot runs work with a short-lived connection.
func (m *mariadb) asRoot(work func(*sql.DB) error) error {
	config, err := mysql.ParseDSN(m.rootDSN(""))
	if err != nil {
		return fmt.Errorf("read DSN: %w", err)
	}
	config.Timeout, config.ReadTimeout, config.WriteTimeout = time.Second, statementMax, 5*time.Second
	config.Logger = &mysql.NopLogger{} // a server that is not up yet is no news
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return fmt.Errorf("read DSN: %w", err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	db.SetMaxOpenConns(1) // one session, for what it sets
	return work(db)
}

func (m *mariadb) exec(ctx context.Context, statements ...string) error {
	return m.asRoot(func(db *sql.DB) error {
		for _, statement := range statements {
			if _, err := db.ExecContext(ctx, statement); err != nil {
				verb, _, _ := strings.Cut(statement, "'") // what follows may be a password
				return fmt.Errorf("run %q: %w", verb, err)
			}
		}
		return nil
	})
}

// replicateFrom points a replica at its source and starts it. It is right at the
// first start and at every later one: the position is the replica's own GTID.
func (m *mariadb) replicateFrom(ctx context.Context, source *mariadb) error {
	return m.exec(ctx,
		"STOP SLAVE",
		fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='%s', "+
			"MASTER_PASSWORD='%s', MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos",
			source.config.Port, accountReplica, source.secrets.Replica),
		"START SLAVE")
}

// acknowledged is nil once n replicas answer for commits. Before that the first
// commits would wait for the time-out of semi-synchronous replication.
func (m *mariadb) acknowledged(ctx context.Context, n int) error {
	return m.asRoot(func(db *sql.DB) error {
		var name string
		var clients int
		row := db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_clients'")
		if err := row.Scan(&name, &clients); err != nil {
			return fmt.Errorf("read semi-sync state: %w", err)
		}
		if clients < n {
			return fmt.Errorf("%d of %d replicas are connected", clients, n)
		}
		return nil
	})
}

// owner is the system user that a server runs as and that its data belong to.
type owner struct {
	name     string // empty: we are not root, and everything is ours
	uid, gid int
}

// dataOwner is `mysql` for root where that user can reach the directory; a clone
// below a folder of mode 0700 is out of its reach, and then it is root.
func dataOwner(dir string) (owner, error) {
	if os.Getuid() != 0 {
		return owner{}, nil
	}
	root := owner{name: "root"}
	account, err := user.Lookup("mysql")
	if err != nil {
		return root, nil
	}
	uid, errUID := strconv.Atoi(account.Uid)
	gid, errGID := strconv.Atoi(account.Gid)
	if err := errors.Join(errUID, errGID); err != nil {
		return root, fmt.Errorf("read the ids of user mysql: %w", err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return root, fmt.Errorf("look at %s: %w", dir, err)
		}
		const othersEnter = 0o001
		if info.Mode()&othersEnter == 0 {
			return root, nil
		}
	}
	return owner{name: account.Username, uid: uid, gid: gid}, nil
}

// take gives files and whole directories to the owner.
func (o owner) take(paths ...string) error {
	if o.name == "" {
		return nil
	}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) == o.uid {
				continue // all below it was taken together
			}
		}
		err := filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, o.uid, o.gid)
		})
		if err != nil {
			return fmt.Errorf("give %s to user %s: %w", path, o.name, err)
		}
	}
	return nil
}
