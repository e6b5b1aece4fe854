package sim

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
	"lockstep/saga"
)

// Real is a System on MariaDB, with the engine and the store of a node. Operations run at the simulation's time, so that
// it comes to the same rows as Memory.
type Real struct {
	admin  *sql.DB
	store  *store.Store
	lease  *store.Lease
	engine *posting.Engine

	lose     context.CancelFunc // of the operation whose COMMIT is to be lost
	answered chan struct{}      // closed when its caller has left
}

// OpenReal opens a migrated database. admin may read and change all of its tables.
func OpenReal(ctx context.Context, config store.Config, admin *sql.DB, log *slog.Logger) (r *Real, err error) {
	r = &Real{admin: admin}
	if r.store, err = store.Open(ctx, config); err != nil {
		return nil, err
	}
	engine := posting.DefaultConfig()
	engine.Fault = r.fault
	if r.lease, err = r.store.LeaseNode(ctx, "127.0.0.1:0", "sim", engine.Lanes); err != nil {
		return nil, errors.Join(err, r.store.Close())
	}
	identity := posting.Identity{Node: r.lease.ID, Incarnation: r.lease.Incarnation}
	r.engine, err = posting.Open(ctx, engine, r.store, nil, identity, prometheus.NewRegistry(), log)
	if err != nil {
		return nil, errors.Join(err, r.lease.Close(), r.store.Close())
	}
	return r, nil
}

// Close closes everything but admin.
func (r *Real) Close(ctx context.Context) error {
	return errors.Join(r.engine.Close(ctx), r.lease.Close(), r.store.Close())
}

// Lane is the one that this system writes with.
func (r *Real) Lane() ledger.Lane { return ledger.Lane{Node: r.lease.ID} }

// resets make an empty database of one that was used. Stripes and exposures stay: the engine remembers them.
var resets = []string{
	"DELETE FROM accounts WHERE system_account IS NULL",
	"UPDATE accounts SET posted = 0, version = 0",
	"UPDATE exposures SET cap = NULL, reserved = 0, credited = 0, posted = 0, settled = 0",
	"DELETE FROM remittances", "DELETE FROM remittance_statements", "DELETE FROM remittance_looks", "DELETE FROM transfers", "DELETE FROM entries", "DELETE FROM sagas", "DELETE FROM saga_outbox",
}

// Reset empties the database and opens the accounts and caps of the rows.
func (r *Real) Reset(ctx context.Context, rows Rows, peers ...string) error {
	for _, statement := range resets {
		if _, err := r.admin.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
	}
	for _, peer := range peers {
		if err := r.store.PutPeer(ctx, store.PeerRow{ID: peer, BaseURL: "http://127.0.0.1:1", JWKS: "{}", Epoch: firstEpoch}); err != nil {
			return err
		}
	}
	for _, a := range rows.Accounts {
		_, err := r.admin.ExecContext(ctx, `INSERT INTO accounts (id, owner, currency, label, status, posted, pending_debit, pending_credit,
			overdraft_limit, version, created_at) VALUES (?, ?, ?, '', ?, 0, 0, 0, 0, 0, UTC_TIMESTAMP(6))`, a.ID, a.Owner, a.Currency, a.Status)
		if err != nil {
			return fmt.Errorf("open accounts: %w", err)
		}
	}
	for _, e := range rows.Exposures {
		if err := r.store.CapPeer(ctx, e.ExposureKey, &e.Cap); err != nil {
			return err
		}
	}
	return nil
}

// timed runs an operation at the simulation's time.
type timed struct {
	ledger.Operation
	at time.Time
}

// Apply implements ledger.Operation.
func (t timed) Apply(b *ledger.Book) (ledger.Result, error) {
	b.Now = t.at
	return t.Operation.Apply(b)
}

type timedRemote struct {
	ledger.RemoteOperation
	at time.Time
}

// Apply implements ledger.Operation.
func (t timedRemote) Apply(b *ledger.Book) (ledger.Result, error) {
	b.Now = t.at
	return t.RemoteOperation.Apply(b)
}

// submitMax bounds one operation.
const submitMax = 20 * time.Second

// Submit implements System. A COMMIT that is to be lost is rolled back once its caller has left, as if the node had died.
func (r *Real) Submit(operation ledger.Operation, at time.Time, fate Fate) (ledger.Result, *ledger.Error, error) {
	ctx, cancel := context.WithTimeout(context.Background(), submitMax)
	defer cancel()
	var command posting.Command
	if remote, is := operation.(ledger.RemoteOperation); is {
		command.Operation = timedRemote{remote, at}
	} else {
		command.Operation = timed{operation, at}
	}
	if fate == LosesCommit {
		r.lose, r.answered = cancel, make(chan struct{})
		defer close(r.answered)
	}
	outcome, err := r.engine.Submit(ctx, command)
	switch {
	case fate == LosesCommit && ledger.CodeOf(err) == ledger.OutcomeUnknown, fate == LosesAnswer && err == nil:
		return ledger.Result{}, nil, ErrLost
	case err != nil:
		return ledger.Result{}, nil, err
	case fate != Commits:
		return ledger.Result{}, nil, errors.New("sim: a COMMIT that was to be lost was answered")
	}
	return outcome.Result, outcome.Refusal, nil
}

// fault is the engine's fault point.
func (r *Real) fault(point string) error {
	if point != "before_commit" || r.lose == nil {
		return nil
	}
	lose, answered := r.lose, r.answered
	r.lose = nil // before its caller leaves, who may come back with the next one
	lose()
	<-answered
	return ErrLost
}

// ask runs a read at the source.
func (r *Real) ask(work func(ctx context.Context, q *store.Queries) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), submitMax)
	defer cancel()
	_, err := r.store.Read(ctx, store.Consistency{Source: true}, work)
	return err
}

// Remittances implements System.
func (r *Real) Remittances(ids ...ledger.TransferID) (found map[ledger.TransferID]ledger.Remittance, err error) {
	err = r.ask(func(ctx context.Context, q *store.Queries) error {
		found, err = q.Remittances(ctx, ids)
		return err
	})
	return found, err
}

// Between implements System.
func (r *Real) Between(payer, payee string, after ledger.TransferID, limit int) (list []ledger.Remittance, err error) {
	err = r.ask(func(ctx context.Context, q *store.Queries) error {
		list, err = q.RemittancesBetween(ctx, payer, payee, after, limit)
		return err
	})
	return list, err
}

// Digest implements System.
func (r *Real) Digest(payer, payee string, after, until ledger.TransferID, limit int) (digest *ledger.Digest, err error) {
	err = r.ask(func(ctx context.Context, q *store.Queries) error {
		digest, err = q.RemittancesDigest(ctx, payer, payee, after, until, limit)
		return err
	})
	return digest, err
}

// InsideIDs implements System.
func (r *Real) InsideIDs(ids ...ledger.TransferID) (found map[ledger.TransferID]bool, err error) {
	err = r.ask(func(ctx context.Context, q *store.Queries) error {
		found, err = q.InsideIDs(ctx, ids)
		return err
	})
	return found, err
}

// Outbox implements System.
func (r *Real) Outbox() (list []saga.Message, err error) {
	return rowsOf(r.admin, func(rows *sql.Rows) (m saga.Message, err error) {
		return m, rows.Scan(&m.ID, &m.Destination, &m.Events)
	}, "SELECT id, destination, events FROM saga_outbox WHERE destination <> ? ORDER BY id", posting.OwnEvents)
}

// Told implements System.
func (r *Real) Told(id string) error {
	_, err := r.admin.ExecContext(context.Background(), "DELETE FROM saga_outbox WHERE id = ?", id)
	return err
}

// Sagas implements System.
func (r *Real) Sagas() ([]Saga, error) {
	return rowsOf(r.admin, func(rows *sql.Rows) (s Saga, err error) {
		return s, rows.Scan(&s.ID, &s.Kind)
	}, `SELECT id, kind FROM sagas WHERE state = ? UNION ALL SELECT id, IF(payer_system = ?, 'remit', 'await') FROM remittances
		WHERE state = 'pending' AND (look_at IS NULL) <> (room IS NULL) ORDER BY id`, saga.StateRunning, r.store.System())
}

// EndSaga implements System.
func (r *Real) EndSaga(id string) error {
	_, err := r.admin.ExecContext(context.Background(), "UPDATE sagas SET state = ? WHERE id = ?", saga.StateDone, id)
	if err == nil {
		_, err = r.admin.ExecContext(context.Background(), "UPDATE remittances SET look_at = '9999-12-31' WHERE id = ? AND state = 'pending'", id)
	}
	return err
}

// RaiseEpoch implements System.
func (r *Real) RaiseEpoch(peer string, epoch int64) error {
	return r.store.RaiseEpoch(context.Background(), peer, epoch)
}

// PeerEpoch implements System.
func (r *Real) PeerEpoch(peer string) (epoch int64, err error) {
	err = r.admin.QueryRowContext(context.Background(), "SELECT epoch FROM peers WHERE id = ?", peer).Scan(&epoch)
	return epoch, err
}

// rowsOf reads all rows of a query.
func rowsOf[T any](db *sql.DB, scan func(*sql.Rows) (T, error), query string, args ...any) (list []T, err error) {
	rows, err := db.QueryContext(context.Background(), query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, rows.Err()
}
