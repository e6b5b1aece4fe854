package queue_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"lockstep/cluster/local/servers"
	"lockstep/examples/ticketoffice/queue"
	"lockstep/examples/ticketoffice/store"
	"lockstep/saga"
)

// Buyers are admitted in the order in which they came, so many at a time, also after Redis forgot them all; a place that
// becomes free, because somebody leaves or is too late, goes to the next.
func TestOrderOutlivesRedis(t *testing.T) {
	t.Parallel()
	const capacity, lifetime = 2, time.Hour
	shared := servers.Shared(t)
	dsn := shared.Database(t).Migrate
	db, err := store.Open(t.Context(), dsn, "queue")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	hand, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hand.Close() })
	client := redis.NewClient(&redis.Options{Addr: shared.RedisAddrs[0], MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	key := t.Name() + time.Now().String()
	q := queue.New(db, client, key, capacity, lifetime, slog.New(slog.DiscardHandler))

	var ids []string
	for range 6 {
		token, err := q.Enter(t.Context(), "buyer")
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, token.ID)
	}
	want := func(moment string, states ...string) {
		t.Helper()
		for i, state := range states {
			if token, err := q.Get(t.Context(), ids[i]); err != nil || token.State != state {
				t.Errorf("%s, token %d is %s, not %s: %v", moment, i+1, token.State, state, err)
			}
		}
	}
	admit := func() {
		t.Helper()
		if err := q.Admit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	admit()
	want("at first", "active", "active", "waiting", "waiting", "waiting", "waiting")
	if token, err := q.Get(t.Context(), ids[3]); err != nil || token.Position != 2 {
		t.Errorf("the fourth stands at %d: %v", token.Position, err)
	}

	if err := client.Del(t.Context(), key).Err(); err != nil {
		t.Fatal(err)
	}
	late, err := q.Enter(t.Context(), "latecomer") // alone in Redis, and the last all the same
	if err != nil {
		t.Fatal(err)
	}
	ids = append(ids, late.ID)
	admit()
	admit() // the second look finds Redis short
	if err := q.Leave(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	admit()
	want("after Redis forgot", "expired", "active", "active", "waiting", "waiting", "waiting", "waiting")

	for _, id := range ids[1:3] {
		if _, err := hand.ExecContext(t.Context(), "UPDATE tokens SET expires_at = UTC_TIMESTAMP(6) WHERE id = ?", id); err != nil {
			t.Fatal(err)
		}
	}
	admit()
	want("after the first two were too late", "expired", "expired", "expired", "active", "active", "waiting", "waiting")
}

// Several processes admit at once, while tokens come and go quickly: at no moment are more at the counter than there is room
// for, and everybody gets there.
func TestManyWhoAdmitNeverAdmitTooMany(t *testing.T) { // alone: it does as fast as it can what others time
	const capacity, admitting, buyers, lifetime = 3, 4, 40, 5 * time.Millisecond
	shared := servers.Shared(t)
	dsn, key := shared.Database(t).Migrate, t.Name()+time.Now().String()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var working sync.WaitGroup
	var db *store.Store
	for i := range admitting {
		own, err := store.Open(ctx, dsn, "queue")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = own.Close() })
		client := redis.NewClient(&redis.Options{Addr: shared.RedisAddrs[0], MaxRetries: -1})
		t.Cleanup(func() { _ = client.Close() })
		q := queue.New(own, client, key, capacity, lifetime, slog.New(slog.DiscardHandler))
		for n := 0; i == 0 && n < buyers; n++ {
			if _, err := q.Enter(ctx, "buyer"); err != nil {
				t.Fatal(err)
			}
		}
		db = own
		working.Go(func() {
			for ctx.Err() == nil {
				_ = q.Admit(ctx) // a deadlock among them is tried again
			}
		})
	}
	most, looks := 0, 0
	for waiting, end := buyers, time.Now().Add(30*time.Second); waiting > 0 && time.Now().Before(end); looks++ {
		err := db.Within(ctx, func(tx saga.Tx) error {
			return tx.Query(ctx, func(rows *sql.Rows) error {
				var active int
				err := rows.Scan(&waiting, &active)
				most = max(most, active)
				return err
			}, `SELECT COALESCE(SUM(state = 'waiting'), 0), COALESCE(SUM(state = 'active'), 0) FROM tokens`)
		})
		if err != nil {
			t.Fatal(err)
		}
		if waiting > 0 && time.Now().After(end.Add(-time.Second)) {
			t.Errorf("%d still wait", waiting)
		}
	}
	stop()
	working.Wait()
	if most != capacity {
		t.Errorf("at most %d were active at once in %d looks, where %d may be", most, looks, capacity)
	}
}

// While one admits, nobody else does, and who comes next counts again: what it has seen before may be true no more.
func TestWhoAdmitsIsAlone(t *testing.T) {
	t.Parallel()
	const seen = 500 * time.Millisecond // the time that a wait takes to be seen as one
	shared := servers.Shared(t)
	db, err := store.Open(t.Context(), shared.Database(t).Migrate, "queue")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	client := redis.NewClient(&redis.Options{Addr: shared.RedisAddrs[0], MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	key := t.Name() + time.Now().String()
	var queues []*queue.Queue
	var ids []string
	for range 2 {
		q := queue.New(db, client, key, 1, time.Hour, slog.New(slog.DiscardHandler))
		token, err := q.Enter(t.Context(), "buyer")
		if err != nil {
			t.Fatal(err)
		}
		queues, ids = append(queues, q), append(ids, token.ID)
	}
	admitted := make(chan error, len(queues))
	err = db.Within(t.Context(), func(tx saga.Tx) error {
		err := tx.Query(t.Context(), func(*sql.Rows) error { return nil }, `SELECT id FROM admission WHERE id = 1 FOR UPDATE`)
		if err != nil {
			return err
		}
		for i, q := range queues { // each finds room for one, and another buyer first in the queue
			go func() { admitted <- q.Admit(t.Context()) }()
			select {
			case err := <-admitted:
				t.Errorf("somebody admitted while another did: %v", err)
				admitted <- err
			case <-time.After(seen):
			}
			if err := client.ZRem(t.Context(), key, ids[i]).Err(); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, <-admitted, <-admitted); err != nil {
		t.Fatal(err)
	}
	active := 0
	for _, id := range ids {
		if now, err := queues[0].Get(t.Context(), id); err != nil {
			t.Fatal(err)
		} else if now.State == queue.Active {
			active++
		}
	}
	if active != 1 {
		t.Errorf("%d were admitted where there is room for one", active)
	}
}
