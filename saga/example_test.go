package saga_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/saga"
)

// Book a seat at one service and a table at another. The seat is a row of ours, the table is booked by a request that may
// get lost, and the guest hears of it when both are certain.
func Example() {
	db, err := sql.Open("mysql", "box:office@tcp(127.0.0.1:3306)/evenings?parseTime=true&timeout=2s&readTimeout=6s")
	if err != nil {
		log.Fatal(err)
	}
	if err := evening(context.Background(), db, db, "evening-1"); err != nil {
		log.Fatal(err)
	}
}

// evening needs a database with the table `seats`, and an account that may make tables.
func evening(ctx context.Context, db, admin *sql.DB, id string) error {
	if err := saga.Migrate(ctx, admin); err != nil {
		return err
	}
	definition, err := saga.Define("evening", steps()...)
	if err != nil {
		return err
	}
	database := saga.SQL(db)
	sagas := saga.NewLog(database, time.Hour)
	runner := saga.DefaultRunner(sagas, map[string]saga.Handler{"evening": definition.Handler(sagas)})
	if err := runner.Open(ctx); err != nil {
		return err
	}
	defer func() { _ = runner.Close() }()
	outbox := saga.DefaultOutbox(database, printer{})
	if err := outbox.Open(ctx); err != nil {
		return err
	}
	defer func() { _ = outbox.Close() }()

	tx, err := database.Begin(ctx) // your own transaction: what starts the saga belongs in here too
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	start := definition.Start(saga.New{ID: id, Data: []byte("row 7, seat 2"), Within: time.Minute})
	if err := start.Exec(ctx, tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	runner.Wake()
	for {
		s, err := sagas.Get(ctx, id)
		if err != nil || s.State.Final() {
			fmt.Println(id, s.State, s.Cause)
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func steps() []saga.Step {
	return []saga.Step{
		{
			Name: "seat",
			Do: func(ctx context.Context, tx saga.Tx, s *saga.Saga) error {
				_, err := tx.Exec(ctx, "INSERT INTO seats (seat, evening) VALUES (?, ?)", s.Data, s.ID)
				return err
			},
			Undo: func(ctx context.Context, tx saga.Tx, s *saga.Saga) error {
				_, err := tx.Exec(ctx, "DELETE FROM seats WHERE seat = ? AND evening = ?", s.Data, s.ID)
				return err
			},
		},
		{
			Name:   "table",
			Call:   func(_ context.Context, _ *saga.Saga) error { return nil }, // a request with the saga's id; saga.Refused(err) if they are full
			Cancel: announce("restaurant", "cancel"),                           // they may have booked it without our hearing so
		},
		{Name: "sold", Kind: saga.Pivot, Do: announce("guest", "booked")},
	}
}

// announce tells somebody what has happened, if it happens.
func announce(to, event string) func(context.Context, saga.Tx, *saga.Saga) error {
	return func(ctx context.Context, tx saga.Tx, s *saga.Saga) error {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		message := saga.Message{ID: id.String(), Destination: to, Events: []byte(event + " " + s.ID)}
		return saga.Announce(message).Exec(ctx, tx)
	}
}

// printer stands for a message broker.
type printer struct{}

func (printer) Publish(_ context.Context, m saga.Message) error {
	fmt.Printf("to %s: %s\n", m.Destination, m.Events)
	return nil
}

func TestTheExampleRuns(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, err := f.admin.ExecContext(testContext(t), "CREATE TABLE seats (seat VARCHAR(64) PRIMARY KEY, evening VARCHAR(64)) ENGINE=InnoDB")
	must(t, err)
	must(t, evening(testContext(t), f.sql, f.admin, "evening-1"))
	f.wantState("evening-1", saga.StateDone)
	if n := f.count("SELECT COUNT(*) FROM seats WHERE evening = 'evening-1'"); n != 1 {
		t.Errorf("%d seats were sold", n)
	}
}
