package store_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

// An epoch is higher than every one before, also when the clock stands still or went back, and nodes learn of it by
// themselves.
func TestEveryEpochIsHigherThanTheOneBefore(t *testing.T) {
	t.Parallel()
	config := storetest.Config(t)
	s, other := storetest.OpenWith(t, config), storetest.OpenWith(t, config)
	if s.Epoch() != 1 || !s.Reconciled() {
		t.Errorf("a new system is in epoch %d, reconciled %v", s.Epoch(), s.Reconciled())
	}
	first, err := s.BeginEpoch(testContext(t))
	must(t, err)
	if age := time.Now().Unix() - first; age < 0 || age > 5 {
		t.Errorf("the epoch %d is not the Unix time", first)
	}
	second, err := s.BeginEpoch(testContext(t)) // in the same second, most likely
	must(t, err)
	if second <= first || s.Epoch() != second || s.Reconciled() {
		t.Errorf("epoch %d after %d; the store says %d, reconciled %v", second, first, s.Epoch(), s.Reconciled())
	}
	ahead := time.Now().Unix() + 1000
	_, err = s.Source().ExecContext(testContext(t), "UPDATE `system` SET epoch = ?", ahead)
	must(t, err)
	third, err := s.BeginEpoch(testContext(t))
	must(t, err)
	if third != ahead+1 {
		t.Errorf("epoch %d after %d", third, ahead)
	}
	within(t, testMax, "another node learns of the epoch", func() bool { return other.Epoch() == third && !other.Reconciled() })
	_, err = s.NoteReconciled(testContext(t), third)
	must(t, err)
	within(t, testMax, "another node learns of its end", func() bool { return other.Reconciled() })
}

// A source that another has replaced may answer late, in the epoch that is over.
func TestANodeGoesBackToNoEpochThatIsOver(t *testing.T) {
	t.Parallel()
	config := storetest.Config(t)
	var asked atomic.Int64 // each look asks for the time
	config.CheckEvery, config.Clock = 10*time.Millisecond, func() time.Time { asked.Add(1); return time.Now() }
	s := storetest.OpenWith(t, config)
	says := func(epoch int, state string) {
		_, err := s.Source().ExecContext(testContext(t), "UPDATE `system` SET epoch = ?, state = ?", epoch, state)
		must(t, err)
	}
	says(7, "unreconciled")
	within(t, testMax, "the node learns of the epoch", func() bool { return s.Epoch() == 7 && !s.Reconciled() })
	says(6, "ready")
	for later := asked.Load() + 5; asked.Load() < later; time.Sleep(time.Millisecond) {
		if s.Epoch() != 7 || s.Reconciled() {
			break
		}
	}
	if s.Epoch() != 7 || s.Reconciled() {
		t.Errorf("the node is in epoch %d, reconciled %v, after it has seen epoch 7", s.Epoch(), s.Reconciled())
	}
}

// Accounts that were opened after the last backup are forgotten, but peers may still pay to their numbers. No account that
// is opened later has one of them.
func TestAnEpochGivesOutNoNumberOfTheOneBefore(t *testing.T) {
	t.Parallel()
	b := newBank(t, storetest.Open(t))
	before := b.account(t, "client:a").ID
	_, err := b.BeginEpoch(testContext(t))
	must(t, err)
	const lostMax = 900_000
	if after := b.account(t, "client:a").ID; after <= before+lostMax {
		t.Errorf("account %d was opened after %d", after, before)
	}
}

func peerAlone(tb testing.TB, s *store.Store, ids ...string) {
	tb.Helper()
	for _, id := range ids {
		must(tb, s.PutPeer(testContext(tb), store.PeerRow{ID: id, BaseURL: "http://127.0.0.1:1", JWKS: "{}", Epoch: 1}))
	}
}

// A system is ready when its books agree with those of every peer in its present epoch, and not before.
func TestASystemIsReadyWhenAllItsPeersWereReconciled(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	peerAlone(t, s, "beta", "gamma")
	first, err := s.BeginEpoch(testContext(t))
	must(t, err)
	left, err := s.NoteReconciled(testContext(t), first, "beta")
	must(t, err)
	if len(left) != 1 || left[0] != "gamma" || s.Reconciled() {
		t.Errorf("left %v, reconciled %v", left, s.Reconciled())
	}
	second, err := s.BeginEpoch(testContext(t))
	must(t, err)
	if _, err := s.NoteReconciled(testContext(t), first, "gamma"); err == nil || s.Reconciled() {
		t.Error("what was reconciled in an epoch that is over ended the present one")
	}
	left, err = s.NoteReconciled(testContext(t), second, "gamma")
	must(t, err)
	if len(left) != 1 || left[0] != "beta" {
		t.Errorf("in the second epoch left %v", left)
	}
	left, err = s.NoteReconciled(testContext(t), second, "beta")
	must(t, err)
	if len(left) != 0 || !s.Reconciled() {
		t.Errorf("left %v, reconciled %v", left, s.Reconciled())
	}
}

// The exposure to a peer that is made while the peer's epoch is being raised is in the new epoch: else what the peer said
// before would count there.
func TestAnExposureIsMadeInThePeersEpochOfTheMoment(t *testing.T) {
	t.Parallel()
	config, database := storetest.Database(t)
	s := storetest.OpenWith(t, config)
	peerAlone(t, s, "beta")
	raising, err := open(t, database.Admin).BeginTx(testContext(t), nil) // RaiseEpoch, held just before its COMMIT
	must(t, err)
	defer func() { _ = raising.Rollback() }()
	_, err = raising.ExecContext(testContext(t), "UPDATE peers SET epoch = 7 WHERE id = 'beta'")
	must(t, err)
	made := make(chan error, 1)
	key := ledger.ExposureKey{Peer: "beta", Currency: "KRW"}
	go func() { made <- s.MakeExposure(context.Background(), key) }()
	admin := open(t, database.Admin)
	// Until it waits, or is made without waiting; but no longer than a lock is waited for, however busy the machine is.
	for end := time.Now().Add(time.Second); time.Now().Before(end) && len(made) == 0; time.Sleep(10 * time.Millisecond) {
		if waiting(t, admin, "%exposures%") {
			break
		}
	}
	must(t, raising.Commit())
	must(t, <-made)
	exposures := fromSource(t, s, func(ctx context.Context, q *store.Queries) ([]ledger.Exposure, error) { return q.Exposures(ctx) })
	if len(exposures) != 1 || exposures[0].Epoch != 7 {
		t.Errorf("the exposures are %+v", exposures)
	}
}

// A half restored database is nobody's to open.
func TestAHalfRestoredDatabaseIsNotOpened(t *testing.T) {
	t.Parallel()
	config, database := storetest.Database(t)
	_, err := open(t, database.Admin).ExecContext(testContext(t), "UPDATE `system` SET state = 'restoring'")
	must(t, err)
	if s, err := store.Open(testContext(t), config); !errors.Is(err, store.ErrRestoring) {
		t.Errorf("it was opened: %v, %v", s, err)
	}
}

// The source itself is not promoted: it would lose nothing but its peers' trust, and a mistyped address is more likely.
func TestAServerThatTakesWritesIsNotPromoted(t *testing.T) {
	t.Parallel()
	config, database := storetest.Database(t)
	done, err := store.Promote(testContext(t), database.Admin, config.System, config.Logger)
	if !errors.Is(err, store.ErrTakesWrites) {
		t.Errorf("promoted a server that takes writes: %+v, %v", done, err)
	}
	if takes, address, err := store.TakesWrites(testContext(t), config, database.Replica); !takes || address == "" || err != nil {
		t.Errorf("the source at %q takes writes: %v, %v", address, takes, err)
	}
	config.Source = database.Replica
	if takes, _, err := store.TakesWrites(testContext(t), config, database.Replica); takes || err != nil {
		t.Errorf("the replica takes writes: %v, %v", takes, err)
	}
	var epoch int64
	var state string
	must(t, open(t, database.Admin).QueryRowContext(testContext(t), "SELECT epoch, state FROM `system`").Scan(&epoch, &state))
	if epoch != 1 || state != "ready" {
		t.Errorf("a refused promotion left the system %s in epoch %d", state, epoch)
	}
}
