package choreography

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"lockstep/api/client"
	"lockstep/cluster/events"
	"lockstep/cluster/local/servers"
	"lockstep/examples/ticketoffice/points"
	"lockstep/examples/ticketoffice/store"
	"lockstep/saga"
)

// unheard is a points service with a charge whose hold is at Lockstep as the test says. Its broker is away.
func unheard(t *testing.T, state string) (*PointsService, points.Charge) {
	t.Helper()
	db, err := store.Open(t.Context(), servers.Shared(t).Database(t).Migrate, Points)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	config := Bus()
	config.URL, config.System = "nats://127.0.0.1:1", Points
	bus, err := events.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	lockstep := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.Method + " " + r.URL.Path {
		case "POST /v1/oauth/token":
			fmt.Fprint(w, `{"access_token":"t","token_type":"Bearer","expires_in":900}`)
		case "GET /v1/holds/hold":
			fmt.Fprintf(w, `{"id":"hold","state":%q}`, state)
		default:
			t.Errorf("a hint made the office send %s %s", r.Method, r.URL.Path)
		}
	}))
	t.Cleanup(lockstep.Close)
	asks, err := client.New(client.Config{BaseURL: lockstep.URL, ClientID: "office", ClientSecret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(asks.Close)
	p := NewPoints(db, bus, &points.Desk{Client: asks, Shop: "shop", Expires: time.Minute}, nil, slog.New(slog.DiscardHandler))
	var charge points.Charge
	if err := db.Within(t.Context(), func(tx saga.Tx) error {
		if _, err := points.Intend(t.Context(), tx, about); err != nil {
			return err
		}
		if err := points.Note(t.Context(), tx, about.Payment, points.Held, "hold"); err != nil {
			return err
		}
		charge, err = points.ByHold(t.Context(), tx, "hold")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return p, charge
}

// A hint makes Lockstep be asked, and its answer decides: once for each delivery, and once for all of them.
func TestAHintIsAskedAbout(t *testing.T) {
	t.Parallel()
	for state, wanted := range map[string]struct {
		told   int
		charge string
	}{
		"pending": {0, points.Held},
		"posted":  {4, points.Captured}, // payment, concert, queue and push go on
		"expired": {1, points.Held},     // the concert is told; the charge is voided when that has answered
		"voided":  {1, points.Held},
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			p, charge := unheard(t, state)
			for i, delivery := range []string{"first", "first", "second"} {
				broughtOn, err := p.Hint(t.Context(), delivery, charge)
				if err != nil || broughtOn != (i == 0 && wanted.told > 0) {
					t.Errorf("delivery %d brought the sale on: %v, %v", i+1, broughtOn, err)
				}
			}
			now, err := p.intend(t.Context(), about)
			if stats, statsErr := p.outbox.Stats(t.Context()); err != nil || statsErr != nil || now.State != wanted.charge || stats.Waiting != wanted.told {
				t.Errorf("the charge is %s and %d services are told, wanted %s and %d: %v, %v", now.State, stats.Waiting, wanted.charge, wanted.told, err, statsErr)
			}
		})
	}
}

// Of a sale that is decided a hint says nothing new, and Lockstep is not even asked.
func TestADecidedSaleIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	p, charge := unheard(t, "posted")
	for _, state := range []string{points.Intended, points.Captured, points.Voided} {
		charge.State = state
		if broughtOn, err := p.Hint(t.Context(), "delivery of "+state, charge); err != nil || broughtOn {
			t.Errorf("a sale that is %s was brought on: %v, %v", state, broughtOn, err)
		}
	}
	if stats, err := p.outbox.Stats(t.Context()); err != nil || stats.Waiting != 0 {
		t.Errorf("%d services are told: %v", stats.Waiting, err)
	}
}
