package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"lockstep/node/store"
)

// FailoverCommand is `lockstep failover`.
type FailoverCommand struct {
	ConfigFlags
	To     string `help:"Replica that is to be the source, as user:password@tcp(host:port)/database. The account has to control replication and to write while the server is read-only, as root does." placeholder:"DSN" xor:"to" required:""`
	ToFile string `help:"File with the DSN of --to." type:"existingfile" xor:"to" required:""`
	Fenced bool   `help:"The old source is down, or no node can reach it any more, and it will stay so."`
}

// Help is shown by --help.
func (c *FailoverCommand) Help() string {
	return `Makes a replica the source of a system whose source is lost. First see to it that the old source is down and stays down,
for whatever it still accepts is lost, and say so by --fenced; while it, or another of mysql.candidates, answers and takes writes,
the failover is refused all the same.
Of several replicas choose the one that has received most (Gtid_IO_Pos in SHOW ALL SLAVES STATUS), and do not restart it
before, for then it may forget what it has received and not applied.

The replica applies what it has received and leaves the old source. The system begins a new epoch and is unreconciled, since
the replica may have missed the last commits; then the server takes writes. Transfers to and from other systems that were
lost are found again by 'lockstep reconcile', for the other side knows them; deposits, withdrawals and transfers inside the
system are not: what a semi-synchronous replica had acknowledged is there.

Nodes that know it by mysql.candidates follow by themselves. Else name the server in mysql.source and mysql.migrate of every node's configuration and start the nodes. Then run
'lockstep reconcile'. Set read_only=OFF in the server's own configuration, and on MySQL RESET PERSIST super_read_only, or it will take no writes
after it was restarted, and let the other replicas follow it. The old source has commits that nobody else has: make it a new replica from a copy.

It can be run again when it died.`
}

// ErrSourceAlive says that the source which is to be replaced still takes writes.
var ErrSourceAlive = errors.New("the source still takes writes, and what it accepts would be lost")

// ErrNotFenced says that nobody has vouched for the old source being away.
var ErrNotFenced = errors.New("the source may still take writes from nodes that reach it")

// Run promotes the replica.
func (c *FailoverCommand) Run(ctx context.Context, out io.Writer) error {
	config, err := Load(c.Config, nil)
	if err != nil {
		return err
	}
	to, err := c.replica()
	if err != nil {
		return err
	}
	if to, err = config.MySQL.secured(to); err != nil {
		return fmt.Errorf("mysql.%w", err)
	}
	if err := c.fenced(ctx, config, to); err != nil {
		return err
	}
	done, err := store.Promote(ctx, to, config.System, newLogger("warn"))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, `%[1]s: the source is %[2]s now, in epoch %[3]d, with all that it had received up to %[4]q.
Nodes that have it in mysql.candidates follow. Name it in mysql.source and mysql.migrate of every node, start those that do not run, then run:
  lockstep reconcile --config %[5]s
`, config.System, done.Address, done.Epoch, done.Applied, c.Config)
	return err
}

func (c *FailoverCommand) replica() (string, error) {
	if c.ToFile == "" {
		return c.To, nil
	}
	text, err := os.ReadFile(filepath.Clean(c.ToFile))
	return strings.TrimSpace(string(text)), err
}

// fenced refuses while the configured source takes writes, or another server that nodes may have followed since, whatever the
// operator says, and when nobody says anything.
func (c *FailoverCommand) fenced(ctx context.Context, config Config, to string) error {
	takes, address, err := store.TakesWrites(ctx, storeConfig(config, newLogger("warn")), to)
	switch {
	case takes:
		return fmt.Errorf("%w: stop %s first", ErrSourceAlive, address)
	case !c.Fenced && err != nil:
		return fmt.Errorf("%w: %s does not answer here (%w); see to it that it is down and stays down, and say --fenced", ErrNotFenced, address, err)
	case !c.Fenced:
		return fmt.Errorf("%w: %s is read-only, but only until it is restarted; stop it, and say --fenced", ErrNotFenced, address)
	}
	return nil
}
