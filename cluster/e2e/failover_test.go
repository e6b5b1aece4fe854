package e2e_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"lockstep/cluster/local"
)

// A system with two replicas loses its source under load: it is killed and stays down, then its successor is stopped (SIGSTOP),
// and goes on when another has taken its place. Each time the nodes follow, and what clients were told is in the books. What the
// stopped one commits when it goes on is acknowledged to nobody; it comes back as a replica, without that.
func TestLostSourceIsReplacedUnderLoad(t *testing.T) {
	h := heirs(t)
	for _, by := range []string{"killed", "stopped"} {
		stop := h.load.start(h.c)
		h.flows(t)
		h.readsReplicas(t)
		lost := h.source
		if by == "killed" { // while one of the replicas has not received the last commits
			for _, replica := range []string{replicaName, "alpha-mysql-replica-2"} { // until it has, it could have forgotten some
				eventually(t, replica+" has caught up", func() bool { return h.said(replica, "has caught up") })
			}
			onServer(t, h.dsn(t, replicaName), execute("STOP SLAVE IO_THREAD"))
			h.flows(t)
		}
		gap := h.longestGap(t)
		rogue := h.rogue(t)
		h.loses(t, by)
		h.replaced(t, lost)
		if by == "killed" && h.source == replicaName {
			t.Error("the replica that has received less was promoted")
		}
		h.flows(t)
		if by == "stopped" {
			h.goesOn(t, lost, rogue)
			h.flows(t)
		}
		without := gap()
		unknown := h.load.learn(h.c)
		t.Logf("the source was %s: %.1f s without writes, %d payments answered unknown", by, without.Seconds(), unknown)
		if without > withoutWritesMax {
			t.Errorf("nobody could write for %v, more than %v", without, withoutWritesMax)
		}
		if by == "killed" {
			h.start(t, lost)
		}
		h.followsAgain(t, lost)
		stop()
		h.load.learn(h.c)
		h.alike(t)
		h.load.audit(h.c)
	}
	h.s.verify(t)
	h.staysBehind(t)
	h.remembered(t)
}

const withoutWritesMax = 15 * time.Second

// heirloom is a system of three servers, and which of them is its source.
type heirloom struct {
	s      *site
	c      caller
	load   *patient
	source string // name of its process

	mu     sync.Mutex
	events []local.Event
}

func heirs(t *testing.T) *heirloom {
	h := &heirloom{source: sourceName}
	h.s = own(t, func(o *local.Options) {
		o.Replicas = 2
		o.Progress = func(e local.Event) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.events = append(h.events, e)
		}
	})
	h.c = h.s.as(t, h.s.operator).inHaste()
	h.load = &patient{record: newRecord("KRW")}
	for range 8 {
		h.load.numbers = append(h.load.numbers, h.load.open(h.c, "1000000"))
	}
	onServer(t, h.s.source, execute("CREATE DATABASE rogue"))
	onServer(t, h.s.source, execute("CREATE TABLE rogue.writes (id INT PRIMARY KEY)"))
	t.Cleanup(func() {
		if t.Failed() {
			for _, e := range h.events {
				t.Logf("%s %s %s", e.At.Format("15:04:05.000"), e.Process, e.Text)
			}
		}
	})
	return h
}

// said tells whether an event of a process has these words.
func (h *heirloom) said(process, words string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.events, func(e local.Event) bool { return e.Process == process && strings.Contains(e.Text, words) })
}

// longestGap watches acknowledged payments until it is asked for the longest time without one.
func (h *heirloom) longestGap(t *testing.T) func() time.Duration {
	ctx, cancel := context.WithCancel(t.Context())
	longest, last, count := time.Duration(0), time.Now(), int64(-1)
	var watching sync.WaitGroup
	watching.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
			now := h.load.made[0].Load() + h.load.made[1].Load()
			if now > count {
				last = time.Now()
			}
			count = now // which flows sets back
			longest = max(longest, time.Since(last))
		}
	})
	t.Cleanup(cancel)
	return func() time.Duration { cancel(); watching.Wait(); return longest }
}

// flows waits until both nodes make payments, from now on, on a machine that may have much else to do.
func (h *heirloom) flows(t *testing.T) {
	t.Helper()
	const enough = 5
	for node := range h.load.made {
		h.load.made[node].Store(0)
	}
	inTime(t, 3*patience, "both nodes make payments", func() bool {
		return h.load.made[0].Load() > enough && h.load.made[1].Load() > enough
	})
}

// readsReplicas waits until both nodes have read at replicas alone for longer than they take to look at one: after a change of the
// source they know of none for a moment, or take the new source for one, and a read then is lost with it.
func (h *heirloom) readsReplicas(t *testing.T) {
	t.Helper()
	const inARow, pause = 50, 50 * time.Millisecond
	inTime(t, 3*patience, "both nodes read at replicas", func() bool {
		for range inARow {
			for _, base := range h.s.bases() {
				if h.c.at(base).get("/v1/accounts/"+h.load.numbers[0]).header.Get("Read-From") != "replica" {
					return false
				}
			}
			time.Sleep(pause)
		}
		return true
	})
}

// loses takes the source away.
func (h *heirloom) loses(t *testing.T, by string) {
	t.Helper()
	var err error
	if by == "killed" {
		err = h.s.cluster.Kill(h.source, true)
	} else {
		err = h.s.cluster.Stop(h.source)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// replaced waits for another source, and looks at it from then on.
func (h *heirloom) replaced(t *testing.T, lost string) {
	t.Helper()
	eventually(t, "a replica takes the place of "+lost, func() bool {
		h.source = h.named("mysql-source")
		return h.source != lost && h.said(h.source, "is the source now")
	})
	written, err := local.ReadCredentials(h.s.options.Dir)
	if err != nil {
		t.Fatal(err)
	}
	h.s.source = written.Systems[0].MySQLSourceDSN
	if at := h.at(h.source); !strings.Contains(h.s.source, at) {
		t.Errorf("the source is %s at %s, and credentials.json names another", h.source, at)
	}
}

// named is the process of a kind.
func (h *heirloom) named(kind string) (name string) {
	for _, p := range h.s.cluster.Processes() {
		if p.Kind == kind {
			name = p.Name
		}
	}
	return name
}

// at is the address of a process.
func (h *heirloom) at(name string) string {
	all := h.s.cluster.Processes()
	return all[slices.IndexFunc(all, func(p local.Status) bool { return p.Name == name })].Address
}

// dsn is how root reaches a server.
func (h *heirloom) dsn(t *testing.T, name string) string {
	t.Helper()
	config, err := mysql.ParseDSN(h.s.source)
	if err != nil {
		t.Fatal(err)
	}
	config.Addr = h.at(name)
	return config.FormatDSN()
}

// rogue is a session of the source that knows of no failover.
func (h *heirloom) rogue(t *testing.T) *sql.Conn {
	t.Helper()
	db, err := sql.Open("mysql", h.s.source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// goesOn lets a stopped source go on, with a commit that was sent to it meanwhile. Nobody may hear that it succeeded.
func (h *heirloom) goesOn(t *testing.T, lost string, rogue *sql.Conn) {
	t.Helper()
	heard := make(chan error, 1)
	go func() {
		_, err := rogue.ExecContext(t.Context(), "INSERT INTO rogue.writes VALUES (1)")
		heard <- err
	}()
	if err := h.s.cluster.Continue(lost); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-heard:
		if err == nil {
			t.Error("a former source has acknowledged a commit")
		}
		t.Logf("who wrote to %s directly heard: %v", lost, err)
	case <-time.After(patience):
		t.Error("a former source was not fenced when it went on")
	}
	eventually(t, "what only the former source has is kept aside", func() bool { return h.said(lost, "kept in ") })
	notes, err := filepath.Glob(filepath.Join(h.s.options.Dir, "alpha", strings.TrimPrefix(lost, "alpha-"), "aside-*", "LACKING"))
	if err != nil || len(notes) != 1 {
		t.Fatalf("notes of what only the former source has: %v, %v", notes, err)
	}
	note, err := os.ReadFile(notes[0])
	if err != nil || !strings.Contains(string(note), " to ") {
		t.Errorf("the note says %q, %v", note, err)
	}
	t.Logf("%s", note)
}

func (h *heirloom) start(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.s.cluster.StartProcess(ctx, name); err != nil {
		t.Fatal(err)
	}
}

// followsAgain waits until a former source is a replica.
func (h *heirloom) followsAgain(t *testing.T, name string) {
	t.Helper()
	inTime(t, 2*patience, name+" is a replica again", func() bool {
		all := h.s.cluster.Processes()
		at := slices.IndexFunc(all, func(p local.Status) bool { return p.Name == name })
		return all[at].Kind == "mysql-replica" && all[at].State == local.Running
	})
}

// alike waits until all three servers have the same content; the rogue's write is nowhere.
func (h *heirloom) alike(t *testing.T) {
	t.Helper()
	for _, name := range []string{sourceName, replicaName, "alpha-mysql-replica-2"} {
		inTime(t, 2*patience, name+" has come as far as the source", func() bool {
			reached := h.position(t, name)
			return reached != "" && reached == h.position(t, h.source)
		})
		eventually(t, name+" has what the source has", func() bool { return h.content(t, name) == h.content(t, h.source) })
		onServer(t, h.dsn(t, name), func(db *sql.DB) error {
			var rows int
			err := db.QueryRow("SELECT COUNT(*) FROM rogue.writes").Scan(&rows)
			if rows != 0 {
				t.Errorf("%s has what a former source has acknowledged to nobody", name)
			}
			return err
		})
	}
}

// position is how far a server is, which may have no schema yet.
func (h *heirloom) position(t *testing.T, name string) (gtid string) {
	t.Helper()
	onServer(t, strings.TrimSuffix(h.dsn(t, name), "lockstep"), func(db *sql.DB) error {
		return db.QueryRow("SELECT @@GLOBAL.gtid_binlog_pos").Scan(&gtid)
	})
	return gtid
}

// content is the checksums of a server's books.
func (h *heirloom) content(t *testing.T, name string) (sums string) {
	t.Helper()
	onServer(t, h.dsn(t, name), func(db *sql.DB) error {
		each(t, db, func(rows *sql.Rows) error {
			var table, sum sql.NullString
			err := rows.Scan(&table, &sum)
			sums += table.String + " " + sum.String + "\n"
			return err
		}, "CHECKSUM TABLE accounts, entries, transfers, idempotency")
		return nil
	})
	return sums
}

// staysBehind loses the source while a replica gives no answer: nobody knows what that one has acknowledged, so there is no
// source until it is back.
func (h *heirloom) staysBehind(t *testing.T) {
	t.Helper()
	lost := h.source
	var silent, other string
	for _, name := range []string{sourceName, replicaName, "alpha-mysql-replica-2"} {
		if name != lost {
			other, silent = silent, name
		}
	}
	if err := errors.Join(h.s.cluster.Stop(silent), h.s.cluster.Kill(lost, true)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the supervisor says why it promotes nothing, and what to do", func() bool {
		return h.said("alpha", silent+", which may have acknowledged") && h.said("alpha", "lockstep ctl start "+silent)
	})
	onServer(t, h.dsn(t, other), func(db *sql.DB) error {
		var readOnly bool
		err := db.QueryRow("SELECT @@GLOBAL.read_only").Scan(&readOnly)
		if !readOnly || h.named("mysql-source") != lost {
			t.Errorf("%s was promoted while %s gave no answer", other, silent)
		}
		return err
	})
	if err := h.s.cluster.Continue(silent); err != nil {
		t.Fatal(err)
	}
	h.replaced(t, lost)
	h.start(t, lost)
	h.followsAgain(t, lost)
	eventually(t, "payments are made again", func() bool {
		return h.c.post("/v1/transfers", payment(h.load.numbers[0], h.load.numbers[1], "1", "KRW")).status == 201
	})
}

// remembered starts the cluster again: the promoted server is its source still.
func (h *heirloom) remembered(t *testing.T) {
	t.Helper()
	h.s.cluster.Close()
	ctx, cancel := context.WithTimeout(t.Context(), startMax)
	defer cancel()
	cluster, err := local.Start(ctx, h.s.options)
	if err != nil {
		t.Fatal(err)
	}
	h.s.cluster = cluster
	if got := h.named("mysql-source"); got != h.source {
		t.Errorf("after a restart the source is %s, and %s was promoted", got, h.source)
	}
}
