package api_test

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"lockstep/cluster/local"
	"lockstep/cluster/local/servers"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

// lived is which error numbers a test saw a real server send.
type lived struct {
	mu      sync.Mutex
	numbers map[uint16]int
}

// require waits until the server has sent the error, and notes it.
func (l *lived) require(o *office, number uint16) {
	o.Helper()
	o.eventually(fmt.Sprintf("the server sends error %d", number), func() bool { return o.wire.seen(number) > 0 })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.numbers[number] += o.wire.seen(number)
}

func (l *lived) report(t *testing.T, wanted int) {
	t.Helper()
	t.Logf("a real server sent %v", l.numbers)
	if len(l.numbers) != wanted {
		t.Errorf("a real server sent %d error numbers, want %d", len(l.numbers), wanted)
	}
	all := slices.Concat(slices.Collect(maps.Values(numbers))...)
	for number := range l.numbers {
		if number != hangUp && !slices.Contains(all, number) {
			t.Errorf("a real server sends error %d, which has no place in the table", number)
		}
	}
}

func (b *books) eventually(what string, holds func() bool) {
	b.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("waited in vain: %s", what)
		}
	}
}

// asking asks in the background.
func (o *office) asking(p payment) <-chan answer {
	heard := make(chan answer, 1)
	go func() { heard <- o.ask(p) }()
	return heard
}

// keep locks rows until release is called. Its transaction weighs more than the engine's, so that a deadlock ends the
// engine's.
func (b *books) keep(ids ...int64) (tx *sql.Tx, release func()) {
	b.Helper()
	b.exec("CREATE TABLE weight (id INT PRIMARY KEY AUTO_INCREMENT, text CHAR(1))")
	tx, err := b.admin.Begin()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = tx.Rollback() })
	if _, err := tx.Exec("INSERT INTO weight (text) VALUES ('x')" + strings.Repeat(", ('x')", 999)); err != nil {
		b.Fatal(err)
	}
	b.lock(tx, ids...)
	return tx, func() { _ = tx.Rollback() }
}

func (b *books) lock(tx *sql.Tx, ids ...int64) {
	b.Helper()
	for _, id := range ids {
		if err := tx.QueryRow("SELECT id FROM accounts WHERE id = ? FOR UPDATE", id).Scan(&id); err != nil {
			b.Fatalf("lock account %d: %v", id, err)
		}
	}
}

// waiting waits until the engine waits for a row, and tells in which session.
func (b *books) waiting() (session int64) {
	b.Helper()
	b.eventually("the engine waits for a row", func() bool {
		session = b.number(`SELECT COALESCE(MAX(id), 0) FROM information_schema.processlist
			WHERE db = ? AND info LIKE '%FROM accounts%FOR UPDATE' AND time_ms > 50`, b.database.Name)
		return session > 0
	})
	return session
}

// trigger makes the server do something at the insert of a payment, and take the trigger away again.
func (o *office) trigger(p payment, do string) (drop func()) {
	o.Helper()
	o.exec("CREATE TRIGGER trouble BEFORE INSERT ON transfers FOR EACH ROW IF NEW.reference = '" + p.key + "' THEN " + do + "; END IF")
	return func() { o.exec("DROP TRIGGER trouble") }
}

// changed asks for a payment while the schema is another.
func (o *office) changed(p payment, there, back string) answer {
	o.Helper()
	o.exec(there)
	defer o.exec(back)
	return o.ask(p)
}

// provoked is an error that a test makes a real server send, and what a caller may be told.
type provoked struct {
	number uint16
	wanted []told
	ask    func(o *office, p payment) answer
}

// row is the account's row.
func (o *office) row() int64 { return int64(o.account.Serial()) }

// provokedByRows are the errors of a batch that waits for a row in another's hands.
func provokedByRows() []provoked {
	return []provoked{
		{1205, []told{gaveUp, notKnown}, func(o *office, p payment) answer {
			_, release := o.keep(o.row())
			defer release()
			got := o.hurry(p)
			o.eventually("the wait for the row ends", func() bool { return o.wire.seen(1205) > 0 })
			return got
		}},
		{1213, []told{done}, func(o *office, p payment) answer {
			first := o.number("SELECT MIN(id) FROM accounts")
			tx, release := o.keep(o.number("SELECT MAX(id) FROM accounts"))
			defer release()
			heard := o.asking(p)
			o.waiting()
			o.lock(tx, first)
			release()
			return <-heard
		}},
		{1317, []told{done}, func(o *office, p payment) answer {
			_, release := o.keep(o.row())
			defer release()
			heard := o.asking(p)
			o.exec(fmt.Sprintf("KILL QUERY %d", o.waiting()))
			o.eventually("the statement ends", func() bool { return o.wire.seen(1317) > 0 })
			release()
			return <-heard
		}},
		{hangUp, []told{done}, func(o *office, p payment) answer {
			_, release := o.keep(o.row())
			defer release()
			heard := o.asking(p)
			o.exec(fmt.Sprintf("KILL CONNECTION %d", o.waiting()))
			o.eventually("the session ends", func() bool { return o.wire.seen(hangUp) > 0 })
			release()
			return <-heard
		}},
	}
}

// provokedByWrites are the errors of a batch whose last writes the server does not take.
func provokedByWrites() []provoked {
	return []provoked{
		{1969, []told{failed}, func(o *office, p payment) answer {
			defer o.trigger(p, "SET @waited = SLEEP(20)")()
			return o.ask(p)
		}},
		{1264, []told{failed}, func(o *office, p payment) answer {
			defer o.trigger(p, "SET NEW.amount = 1e30")()
			return o.ask(p)
		}},
		{1406, []told{failed}, func(o *office, p payment) answer {
			defer o.trigger(p, "SET NEW.currency = 'FOUR'")()
			return o.ask(p)
		}},
		{1062, []told{failed}, func(o *office, p payment) answer {
			place := fmt.Sprintf("account_id = %d AND sequence > (SELECT version FROM accounts WHERE id = %[1]d)", o.row())
			o.exec(fmt.Sprintf(`INSERT INTO entries (account_id, sequence, transfer_id, kind, amount, currency, balance_after, counterparty, created_at)
				SELECT account_id, sequence + 1, transfer_id, kind, amount, currency, balance_after, counterparty, created_at
				FROM entries WHERE account_id = %d ORDER BY sequence DESC LIMIT 1`, o.row()))
			defer o.exec("DELETE FROM entries WHERE " + place)
			return o.ask(p)
		}},
		{4025, []told{failed}, func(o *office, p payment) answer {
			return o.changed(p, "ALTER TABLE transfers ADD CONSTRAINT trouble CHECK (reference <> '"+p.key+"')", "ALTER TABLE transfers DROP CONSTRAINT trouble")
		}},
		{1364, []told{failed}, func(o *office, p payment) answer {
			return o.changed(p, "ALTER TABLE transfers ADD COLUMN trouble INT NOT NULL", "ALTER TABLE transfers DROP COLUMN trouble")
		}},
		{1146, []told{noSource}, func(o *office, p payment) answer {
			return o.changed(p, "RENAME TABLE transfers TO elsewhere", "RENAME TABLE elsewhere TO transfers")
		}},
	}
}

// Errors of a real server, provoked as they come about: what the caller is told is so.
func TestErrorsOfARealServerAreToldTruly(t *testing.T) {
	t.Parallel()
	cases := slices.Concat(provokedByRows(), provokedByWrites())
	seen := &lived{numbers: map[uint16]int{}}
	t.Run("Errors", func(t *testing.T) {
		for _, one := range cases {
			t.Run(fmt.Sprint(one.number), func(t *testing.T) {
				t.Parallel()
				o := newBooks(t).office()
				p := o.payment()
				got := one.ask(o, p)
				seen.require(o, one.number)
				o.holds(fmt.Sprintf("error %d of a real server", one.number), p, got, one.wanted...)
				o.verify()
			})
		}
	})
	seen.report(t, len(cases))
}

// own is a server of the test's own, which it may end.
type own struct {
	*office
	cluster *local.Cluster
	user    string // as which the node connects
}

const sourceName = "alpha-mysql-source"

func newOwn(t *testing.T) *own {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cluster, err := local.Start(ctx, local.Options{Dir: t.TempDir(), Systems: []string{"alpha"}, ServersOnly: true, BufferPoolMB: 64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	const name = "lockstep"
	dsns := cluster.DSNs("alpha")
	database := servers.Database{Name: name, Source: dsns.Source + name, Admin: dsns.Admin + name}
	admin := openBooks(t, store.Default(), servers.Database{Admin: dsns.Admin})
	admin.exec("CREATE DATABASE " + name + " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
	config := store.Default()
	config.System, config.Source, config.Logger = storetest.System, database.Source, storetest.Logger(t)
	if err := store.Migrate(ctx, dsns.Migrate+name, storetest.System, config.Logger); err != nil {
		t.Fatal(err)
	}
	o := &own{cluster: cluster, office: openBooks(t, config, database).office()}
	parsed, err := mysql.ParseDSN(database.Source)
	if err != nil {
		t.Fatal(err)
	}
	o.user = fmt.Sprintf("'%s'@'127.0.0.1' IDENTIFIED BY '%s'", parsed.User, parsed.Passwd)
	return o
}

// set changes the server and lets the node connect anew.
func (o *own) set(statements ...string) {
	o.Helper()
	o.exec(statements...)
	o.wire.cut(nil)
}

// crowd takes connections of the node's account until the server has no more, or as many as are wanted.
func (o *own) crowd(wanted int) (leave func()) {
	o.Helper()
	var crowd []*sql.Conn
	db, err := sql.Open("mysql", o.database.Source)
	if err != nil {
		o.Fatal(err)
	}
	for len(crowd) < wanted {
		conn, err := db.Conn(context.Background())
		if err != nil {
			break
		}
		crowd = append(crowd, conn)
	}
	return func() {
		for _, conn := range crowd {
			_ = conn.Close()
		}
		_ = db.Close()
	}
}

// What happens to a whole server: full, read-only, locked up, stopped, killed. What the caller is told is so.
func TestTroubleOfAWholeServerIsToldTruly(t *testing.T) {
	t.Parallel()
	o := newOwn(t)
	seen := &lived{numbers: map[uint16]int{}}
	account, _, _ := strings.Cut(o.user, " ")
	for _, one := range []struct {
		number      uint16
		there, back []string
		crowd       int
	}{
		{number: 1290, there: []string{"SET GLOBAL read_only = 1"}, back: []string{"SET GLOBAL read_only = 0"}},
		{number: 1792, there: []string{"SET GLOBAL tx_read_only = 1"}, back: []string{"SET GLOBAL tx_read_only = 0"}},
		{number: 1040, there: []string{"SET GLOBAL max_connections = 10"}, back: []string{"SET GLOBAL max_connections = 100"}, crowd: 100},
		{
			number: 1226, there: []string{"ALTER USER " + account + " WITH MAX_USER_CONNECTIONS 1"},
			back: []string{"ALTER USER " + account + " WITH MAX_USER_CONNECTIONS 0"}, crowd: 1,
		},
		{number: 1045, there: []string{"ALTER USER " + account + " IDENTIFIED BY 'another'"}, back: []string{"ALTER USER " + o.user}},
		{number: 1142, there: []string{"REVOKE INSERT ON lockstep.* FROM " + account}, back: []string{"GRANT INSERT ON lockstep.* TO " + account}},
	} {
		o.set(one.there...)
		leave := o.crowd(one.crowd)
		p := o.payment()
		got := o.ask(p)
		seen.require(o.office, one.number)
		leave()
		o.set(one.back...)
		o.holds(fmt.Sprintf("error %d of a whole server", one.number), p, got, noSource)
	}
	o.refused(t)
	o.stopped(t, seen)
	o.killedAtCommit(t)
	seen.report(t, 7)
	o.verify()
}

// refused asks while nobody listens at the server's port.
func (o *own) refused(t *testing.T) {
	t.Helper()
	back := o.goes(t)
	if err := o.cluster.Kill(sourceName, true); err != nil {
		t.Fatal(err)
	}
	p := o.payment()
	got := o.ask(p)
	back()
	o.holds("a server that is gone", p, got, noSource)
}

// goes notes which process is the server; back starts it again and waits until another one is there.
func (o *own) goes(t *testing.T) (back func()) {
	t.Helper()
	source := func() local.Status {
		i := slices.IndexFunc(o.cluster.Processes(), func(s local.Status) bool { return s.Name == sourceName })
		return o.cluster.Processes()[i]
	}
	before := source().PID
	return func() {
		t.Helper()
		o.eventually("another server runs", func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			return o.cluster.StartProcess(ctx, sourceName) == nil && source().PID != before && o.admin.PingContext(ctx) == nil
		})
	}
}

// stopped ends the server in order while a batch waits for a row.
func (o *own) stopped(t *testing.T, seen *lived) {
	t.Helper()
	_, release := o.keep(int64(o.account.Serial()))
	defer release()
	back := o.goes(t)
	p := o.payment()
	heard := o.asking(p)
	o.waiting()
	o.exec("SHUTDOWN")
	got := <-heard
	seen.require(o.office, hangUp)
	back()
	o.holds("a server that is stopped in a batch", p, got, done, noSource, notKnown)
}

// killedAtCommit kills the server just before COMMIT and just after it.
func (o *own) killedAtCommit(t *testing.T) {
	t.Helper()
	for _, point := range []string{"before_commit", "after_commit"} {
		killed := false
		kill := func(at string) error {
			if at != point || killed {
				return nil
			}
			killed = true
			if err := o.cluster.Kill(sourceName, true); err != nil {
				t.Error(err)
			}
			if point == "after_commit" {
				return context.DeadlineExceeded
			}
			return nil
		}
		o.fault.Store(&kill)
		back := o.goes(t)
		p := o.payment()
		got := o.hurry(p)
		o.fault.Store(nil)
		back()
		o.holds("a server that is killed "+point, p, got, notKnown)
		if !killed {
			t.Errorf("nothing was killed %s", point)
		}
	}
}
