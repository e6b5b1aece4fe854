package store_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

func lease(tb testing.TB, s *store.Store, lanes int) *store.Lease {
	tb.Helper()
	taken, err := s.LeaseNode(testContext(tb), "127.0.0.1:8081", "v1", lanes)
	must(tb, err)
	tb.Cleanup(func() { _ = taken.Close() })
	return taken
}

func TestNodesThatStartAtOnceGetTheirOwnIDs(t *testing.T) {
	t.Parallel()
	const rounds = 10 // one alone may be lucky
	for range rounds {
		if ids := leaseAtOnce(t, storetest.Open(t), 8); !slices.Equal(ids, []int{1, 2, 3, 4, 5, 6, 7, 8}) {
			t.Errorf("eight nodes got the ids %v", ids)
		}
	}
}

// leaseAtOnce starts nodes together on an empty system, and tells which ids they got.
func leaseAtOnce(t *testing.T, s *store.Store, nodes int) (ids []int) {
	t.Helper()
	var group errgroup.Group
	leases := make([]*store.Lease, nodes)
	for i := range leases {
		group.Go(func() (err error) {
			leases[i], err = s.LeaseNode(testContext(t), "127.0.0.1:8081", "v1", 2)
			return err
		})
	}
	must(t, group.Wait())
	for _, taken := range leases {
		ids = append(ids, taken.ID)
		must(t, taken.Close())
	}
	slices.Sort(ids)
	return ids
}

func TestTheSmallestFreeIDIsReused(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	first, second, third := lease(t, s, 1), lease(t, s, 1), lease(t, s, 1)
	must(t, second.Close())
	must(t, second.Close())
	again := lease(t, s, 1)
	if first.ID != 1 || second.ID != 2 || third.ID != 3 || again.ID != 2 {
		t.Errorf("ids %d, %d, %d and after the second ended %d", first.ID, second.ID, third.ID, again.ID)
	}
	if again.Incarnation == second.Incarnation {
		t.Error("two processes have one incarnation")
	}
	var nodes []store.NodeRow
	_, err := s.Read(testContext(t), store.Consistency{Source: true}, func(ctx context.Context, q *store.Queries) (err error) {
		nodes, err = q.Nodes(ctx)
		return err
	})
	must(t, err)
	if len(nodes) != 3 || nodes[1].Incarnation != again.Incarnation || nodes[1].State != "running" || !nodes[1].LeaseUntil.After(s.Now()) {
		t.Errorf("the nodes' rows are %+v", nodes)
	}
}

// The next owner takes every lane of the id, also those that only its predecessor used.
func TestALostLeaseIsNoticedAndItsLanesAreTaken(t *testing.T) {
	t.Parallel()
	config := storetest.Config(t)
	config.LeaseEvery = 50 * time.Millisecond
	s := storetest.OpenWith(t, config)
	frozen := lease(t, s, 2)
	if !advance(t, s, frozen, 1) {
		t.Fatal("a node does not own its own lane")
	}
	// Its lease ends while the process does not run: here, by another owner written in its place.
	_, err := s.Source().ExecContext(testContext(t), `UPDATE nodes SET incarnation = UUID(), lease_until = UTC_TIMESTAMP(6) WHERE id = ?`, frozen.ID)
	must(t, err)
	select {
	case <-frozen.Lost():
	case <-time.After(10 * time.Second):
		t.Fatal("the loss of the lease was not noticed")
	}
	next := lease(t, s, 1)
	if next.ID != frozen.ID {
		t.Fatalf("the id %d was not reused: %d", frozen.ID, next.ID)
	}
	for lane := range 2 {
		if advance(t, s, frozen, lane) {
			t.Errorf("the last owner of the id still writes on lane %d", lane)
		}
	}
	if !advance(t, s, next, 0) {
		t.Error("the new owner of the id does not own its lane")
	}
}

func advance(tb testing.TB, s *store.Store, taken *store.Lease, lane int) bool {
	tb.Helper()
	tx := begin(tb, s)
	store.AdvanceLane(tx, ledger.Lane{Node: taken.ID, Lane: lane}, taken.Incarnation, 1)
	found, err := tx.Flush(testContext(tb))
	must(tb, err)
	_, err = tx.Commit(testContext(tb))
	must(tb, err)
	return found[0] == 1
}

func TestALeaseIsRenewed(t *testing.T) {
	t.Parallel()
	config := storetest.Config(t)
	config.LeaseFor, config.LeaseEvery = time.Second, 100*time.Millisecond
	s := storetest.OpenWith(t, config)
	kept := lease(t, s, 1)
	var until time.Time
	read := func() (now time.Time) {
		must(t, s.Source().QueryRow("SELECT lease_until FROM nodes WHERE id = ?", kept.ID).Scan(&now))
		return now
	}
	until = read()
	within(t, 10*time.Second, "the lease is renewed past its first end", func() bool { return read().After(until.Add(time.Second)) })
	if other := lease(t, s, 1); other.ID == kept.ID {
		t.Error("an id was given away while its lease is renewed")
	}
	select {
	case <-kept.Lost():
		t.Error("a renewed lease is called lost")
	default:
	}
}

// A transaction of the id's last owner may still hold its lane; the new owner waits it out.
func TestALaneThatIsStillLockedIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := storetest.OpenWith(t, quick(t)) // lock waits of 1 s, idle transactions of 1 s
	last := lease(t, s, 1)
	tx := begin(t, s)
	store.AdvanceLane(tx, ledger.Lane{Node: last.ID}, last.Incarnation, 1)
	_, err := tx.Flush(testContext(t))
	must(t, err)
	must(t, last.Close())
	if next := lease(t, s, 1); next.ID != last.ID {
		t.Errorf("the id is %d, wanted %d", next.ID, last.ID)
	}
	if _, err := tx.Commit(testContext(t)); err == nil {
		t.Error("the last owner committed after its lane was taken")
	}
}
