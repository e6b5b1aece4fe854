package local_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/cluster/local"
)

// trio is a source and two replicas under supervision, and what the supervisor said.
type trio struct {
	*local.Cluster
	dir  string
	dsns local.DSNs

	mu   sync.Mutex
	said []string
}

const (
	trioSource = "alpha-mysql-source"
	trioFirst  = "alpha-mysql-replica-1"
)

func startTrio(t *testing.T) *trio {
	o, c := options(t), &trio{}
	o.Nodes, o.Replicas, o.FailoverAfter = 1, 2, 5*time.Second
	o.Progress = func(e local.Event) {
		t.Log(e.At.Format("15:04:05.000"), e.Process, e.Text)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.said = append(c.said, e.Process+" "+e.Text)
	}
	c.Cluster, c.dir = start(t, o), o.Dir
	c.dsns = c.DSNs("alpha")
	mustExec(t, c.dsns.Admin, "CREATE TABLE lockstep.kept (id INT PRIMARY KEY) ENGINE=InnoDB")
	return c
}

// hears tells whether the supervisor has said this of a process.
func (c *trio) hears(process, words string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.said {
		if strings.HasPrefix(line, process+" ") && strings.Contains(line, words) {
			return true
		}
	}
	return false
}

// A source is replaced only while each of its replicas has all that it has acknowledged, and a source that comes back with less
// than a replica has takes no writes.
func TestNoSourceLacksWhatAReplicaHas(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	c.tears(t)
	c.forgets(t)
	c.falls(t)
}

// tears leaves half of what a replica has noted of its source, as a power cut may. It comes back all the same.
func (c *trio) tears(t *testing.T) {
	if err := c.Kill(trioFirst, true); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"master.info", "relay-log.info"} {
		if err := os.Truncate(filepath.Join(c.dir, "alpha", "mysql-replica-1", "data", name), 3); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.StartProcess(ctx, trioFirst); err != nil {
		t.Fatal("a replica with a torn master.info does not come back:", err)
	}
}

// forgets lets a replica throw away what it alone has acknowledged, when it is started again. From then on it cannot be promoted,
// nor can the other one, which never had it, until the replica has it again.
func (c *trio) forgets(t *testing.T) {
	c.watched(t) // so all of them have caught up
	mustExec(t, c.dsns.AdminReplicas[1], "STOP SLAVE IO_THREAD")
	mustExec(t, c.dsns.AdminReplicas[0], "STOP SLAVE SQL_THREAD")
	mustExec(t, c.dsns.Admin, "INSERT INTO lockstep.kept VALUES (1)") // acknowledged by the first, which does not apply it

	// Until the source is started again, which resets it, no replica comes back to it.
	mustExec(t, c.dsns.Admin, "SET SESSION sql_log_bin = 0", "ALTER USER 'lockstep_replica'@'127.0.0.1' IDENTIFIED BY 'other'")
	before := status(t, c.Cluster, trioFirst).PID
	if err := c.Kill(trioFirst, false); err != nil {
		t.Fatal(err)
	}
	await(t, "the first replica is back", func() bool {
		now := status(t, c.Cluster, trioFirst)
		return now.State == local.Running && now.PID != before
	})
	c.watched(t)
	if err := c.Kill(trioSource, true); err != nil {
		t.Fatal(err)
	}
	const refusal, promotion = "had not caught up with it", "a replica takes its place"
	await(t, "the supervisor decides", func() bool { return c.hears("alpha", refusal) || c.hears(trioSource, promotion) })
	if !c.hears("alpha", trioFirst+" "+refusal) || c.hears(trioSource, promotion) {
		t.Error("a replica was to be promoted, and nobody has what the lost source had committed")
	}
	if err := c.StartProcess(t.Context(), trioSource); err != nil {
		t.Fatal(err)
	}
	mustExec(t, c.dsns.AdminReplicas[1], "START SLAVE IO_THREAD")
	for _, dsn := range c.dsns.AdminReplicas {
		await(t, "both replicas have it", func() bool {
			value, _ := query(t, dsn, "SELECT COUNT(*) FROM lockstep.kept")
			return value == "1"
		})
	}
}

// watched waits until the supervisor has looked at the source a few times: each look is a connection, and so is each attempt of the
// replica to come back, once a second.
func (c *trio) watched(t *testing.T) {
	db, err := sql.Open("mysql", c.dsns.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	count := func() (n int) {
		var name string
		if err := db.QueryRowContext(t.Context(), "SHOW GLOBAL STATUS LIKE 'Connections'").Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	first := count()
	await(t, "the supervisor looks at the source", func() bool { return count() > first+5 })
}

// falls lets a source come back with less than a replica has.
func (c *trio) falls(t *testing.T) {
	mustExec(t, c.dsns.AdminReplicas[0], "INSERT INTO lockstep.kept VALUES (2)") // as if the source had lost it
	if err := c.Kill(trioSource, false); err != nil {
		t.Fatal(err)
	}
	readOnly := func() string {
		value, _ := query(t, c.dsns.Admin, "SELECT @@GLOBAL.read_only")
		return value
	}
	await(t, "the supervisor decides", func() bool { return c.hears(trioSource, "takes no writes: ") || readOnly() == "0" })
	if !c.hears(trioSource, "ctl kill --down "+trioSource) || readOnly() != "1" {
		t.Error("a source that has less than a replica takes writes")
	}
}
