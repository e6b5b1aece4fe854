package local_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/cluster/local"
)

// trio is a source and two replicas under supervision, and what the supervisor said.
type trio struct {
	*local.Cluster
	dsns local.DSNs

	mu   sync.Mutex
	said []string
}

const trioSource = "alpha-mysql-source"

func startTrio(t *testing.T) *trio {
	o, c := options(t), &trio{}
	o.Nodes, o.Replicas, o.FailoverAfter = 1, 2, 2*time.Second
	o.Progress = func(e local.Event) {
		t.Log(e.At.Format("15:04:05.000"), e.Process, e.Text)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.said = append(c.said, e.Process+" "+e.Text)
	}
	c.Cluster = start(t, o)
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

// A source that comes back with less than a replica has takes no writes.
func TestNoSourceLacksWhatAReplicaHas(t *testing.T) {
	t.Parallel()
	c := startTrio(t)
	c.falls(t)
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
