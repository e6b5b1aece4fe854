package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/api"
	"lockstep/api/auth"
	"lockstep/cluster/peers"
	"lockstep/node/posting"
	"lockstep/node/remit"
	"lockstep/node/store"
)

// BackupCommand is `lockstep backup`.
type BackupCommand struct {
	ConfigFlags
	Out string `help:"File to write; it appears when it is whole." required:"" type:"path"`
}

// Help is shown by --help.
func (c *BackupCommand) Help() string {
	return `Writes all data of a system into one file, from one snapshot of the source, beside running nodes. The file holds
balances, names and sealed keys: keep it as you keep the database. 'lockstep restore' reads it.

What commits after the snapshot is not in it. Transfers to and from other systems are found again by 'lockstep reconcile',
for the other side knows them; deposits, withdrawals and transfers inside the system are not. To lose none of those, use
replicas, and backups against what replicas copy.`
}

// Run writes the backup.
func (c *BackupCommand) Run(ctx context.Context, out io.Writer) error {
	config, err := Load(c.Config, nil)
	if err != nil {
		return err
	}
	var snapshot store.Snapshot
	err = writeWhole(c.Out, func(file io.Writer) error {
		snapshot, err = store.Backup(ctx, storeConfig(config, newLogger("warn")), file, progressTo(out))
		return err
	})
	if err != nil {
		return fmt.Errorf("back up %s: %w", config.System, err)
	}
	_, err = fmt.Fprintf(out, "%s: epoch %d, schema %d, position %s, in %s\n", snapshot.System, snapshot.Epoch, snapshot.Schema, snapshot.Position, c.Out)
	return err
}

func progressTo(out io.Writer) store.Progress {
	return func(table string, rows int64) { fmt.Fprintf(out, "%-18s %d rows\n", table, rows) }
}

// writeWhole writes a file that only its owner reads, under its name when all of it is on disk.
func writeWhole(path string, write func(io.Writer) error) error {
	partial := path + ".partial"
	file, err := os.OpenFile(filepath.Clean(partial), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = write(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	return os.Rename(partial, path)
}

// RestoreCommand is `lockstep restore`.
type RestoreCommand struct {
	ConfigFlags
	In    string `help:"File that 'lockstep backup' has written." required:"" type:"existingfile"`
	Force bool   `help:"Replace the data although nodes run, or ran seconds ago. They lose their place and end."`
}

// Help is shown by --help.
func (c *RestoreCommand) Help() string {
	return `Replaces all data of a system by a backup. Stop the system's nodes first, and have the schema there ('lockstep
migrate'). It needs mysql.migrate, for it empties tables. Until it has ended no node opens the database; if it dies, run it
again.

The system begins a new epoch and is unreconciled: it serves what stays inside it, and transfers to and from other systems
wait. Add the peers that were made since the backup again ('lockstep peers add'): of those that it does not know nothing is
asked. Then run 'lockstep reconcile'. Replicas follow by themselves.`
}

// Run replaces the data.
func (c *RestoreCommand) Run(ctx context.Context, out io.Writer) error {
	config, err := Load(c.Config, nil)
	if err != nil {
		return err
	}
	if config.MySQL.Migrate == "" {
		return fmt.Errorf("configuration %s: mysql.migrate: name the database account that may change the schema", c.Config)
	}
	file, err := os.Open(c.In)
	if err != nil {
		return err
	}
	defer file.Close()
	restored, err := store.Restore(ctx, config.MySQL.Migrate, config.System, file, c.Force, progressTo(out), newLogger("warn"))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s is as it was at %s, and in epoch %d. Add the peers again that it has had since, start its nodes, then run:\n  lockstep reconcile --config %s\n",
		restored.System, restored.TakenAt.Format(time.RFC3339), restored.Began, c.Config)
	return err
}

// ReconcileCommand is `lockstep reconcile`.
type ReconcileCommand struct {
	ConfigFlags
	Peer []string `help:"Reconcile with this system only; repeatable. The default is every peer that is known."`
}

// Help is shown by --help.
func (c *ReconcileCommand) Help() string {
	return `Compares a system's books with those of its peers after 'lockstep restore', or after a failover that has lost commits.
It tells each peer the new epoch, so that nothing counts any more that was said before, and reads what the peer knows of the
transfers between the two. What the peer has credited on this system's own signed word is posted here under its old id;
what the peer has posted is credited here; what neither knows never happened. The system is ready again when all its peers
were reconciled. The peers have to be reachable; they may be unreconciled themselves.

It can be run again at any time, also after it died. Exit status 1: a peer did not answer, its forgotten credits are above
its cap (raise it by 'lockstep peers add --cap'), or the two books contradict one another: those transfers are listed, nobody
applies them, and somebody has to look at both sides.`
}

// ErrContradicted says that what a peer says contradicts this system's books.
var ErrContradicted = errors.New("the books of two systems contradict one another")

// Run reconciles with the peers, one after the other, and marks the system as ready when all are done.
func (c *ReconcileCommand) Run(ctx context.Context, out io.Writer, version Version) error {
	return withStore(ctx, c.Config, func(config Config, db *store.Store) error {
		log := newLogger(config.LogLevel)
		epoch := db.Epoch()
		return withReconciler(ctx, config, version, db, log, func(r *remit.Reconciler, known []string) error {
			if len(c.Peer) > 0 {
				known = c.Peer
			}
			failed := reconcileEach(ctx, out, db, r, epoch, known)
			left, err := db.NoteReconciled(ctx, epoch)
			switch {
			case err != nil:
				return errors.Join(failed, err)
			case len(left) > 0:
				fmt.Fprintf(out, "%s is unreconciled: still missing %v\n", config.System, left)
			default:
				fmt.Fprintf(out, "%s is ready, in epoch %d\n", config.System, epoch)
			}
			return failed
		})
	})
}

// reconcileEach goes on with the next peer when one fails: the others need not wait for it.
func reconcileEach(ctx context.Context, out io.Writer, db *store.Store, r *remit.Reconciler, epoch int64, known []string) (failed error) {
	for _, peer := range known {
		done, err := r.Peer(ctx, peer)
		report(out, done)
		if err == nil {
			_, err = db.NoteReconciled(ctx, epoch, peer)
		}
		if err == nil && len(done.Conflicts) > 0 {
			err = fmt.Errorf("%w: %d transfers with %s", ErrContradicted, len(done.Conflicts), peer)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

func report(out io.Writer, done remit.Reconciled) {
	fmt.Fprintf(out, "%s: %d agreed, %d posted from their hold, %d recovered (%d of them owed by customers), %d credited, %d released, %d closed\n",
		done.Peer, done.Agreed, done.Posted, done.Recovered, done.Receivable, done.Credited, done.Released, done.Closed)
	for _, line := range done.OverCap {
		fmt.Fprintf(out, "  above the cap: %s\n", line)
	}
	for _, line := range done.Conflicts {
		fmt.Fprintf(out, "  contradiction: %s\n", line)
	}
}

// withReconciler opens an engine beside the nodes, with a node id and a lane of its own. Row locks alone order it among
// them.
func withReconciler(ctx context.Context, config Config, version Version, db *store.Store, log *slog.Logger, work func(r *remit.Reconciler, known []string) error) (err error) {
	keys, err := auth.OpenPeerKeys(ctx, authConfig(config, db, log))
	if err != nil {
		return err
	}
	directory, err := peers.OpenDirectory(ctx, config.System, keys, loadPeers(db), log)
	if err != nil {
		return err
	}
	defer directory.Close()
	lease, err := db.LeaseNode(ctx, "reconcile", string(version), posting.DefaultConfig().Lanes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lease.Close()) }()
	registry := prometheus.NewRegistry()
	identity := posting.Identity{Node: lease.ID, Incarnation: lease.Incarnation}
	engine, err := posting.Open(ctx, posting.DefaultConfig(), db, nil, identity, registry, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close(context.WithoutCancel(ctx))) }()
	client, err := config.peerClient(directory, db.Epoch, registry)
	if err != nil {
		return err
	}
	defer client.Close()
	bounds, err := config.remitter()
	if err != nil {
		return err
	}
	desk, err := remit.Open(ctx, bounds, books{db}, engine, directory, client, registry, log)
	if err != nil {
		return err
	}
	defer desk.Close()
	var known []string
	for _, peer := range directory.Peers() {
		known = append(known, peer.ID)
	}
	raise := func(ctx context.Context, peer string, epoch int64) error {
		return errors.Join(db.RaiseEpoch(ctx, peer, epoch), directory.Refresh(ctx))
	}
	return work(&remit.Reconciler{
		Desk: desk, Informant: client, ReadOwn: directory.ReadOwn, Raise: raise,
		Renderer: func(language, requestID string) posting.Renderer {
			return api.NewRenderer(config.System, language, requestID)
		},
	}, known)
}
