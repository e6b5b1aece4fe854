package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"lockstep/api/client"
	"lockstep/cluster/local/servers"
	"lockstep/examples/ticketoffice/hooks"
	"lockstep/examples/ticketoffice/points"
	"lockstep/examples/ticketoffice/sale"
	"lockstep/examples/ticketoffice/store"
	"lockstep/examples/ticketoffice/web"
	"lockstep/saga"
)

const (
	hookURL     = "http://office.example/webhooks"
	secret      = "whsec_dGhlIHNlY3JldCBvZiB0aGUgd2ViaG9vaw=="
	otherSecret = "whsec_dGhlIHNlY3JldCBvZiBhbm90aGVyIG9uZQ=="
)

var about = sale.Sale{
	Payment: "0197b4a0-0000-7000-8000-000000000001", Token: "0197b4a0-0000-7000-8000-000000000002", Buyer: "alice",
	Account: "alpha-000000001000xx", Concert: "test", Seat: 1, Reservation: "0197b4a0-0000-7000-8000-000000000003", Amount: 1000,
}

// tell sends a delivery about a hold of an account, signed under the secret, and answers with the status.
func tell(t *testing.T, to http.Handler, secret, hold, account, amount string) int {
	t.Helper()
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	body := fmt.Sprintf(`{"type":"hold.posted","timestamp":"2026-01-31T00:00:00.000000Z","data":{"id":%q,"account":%q,"amount":%q}}`, hold, account, amount)
	signature, err := signer.Sign("delivery", now, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/webhooks", strings.NewReader(body))
	r.Header.Set("webhook-id", "delivery")
	r.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	r.Header.Set("webhook-signature", signature)
	w := httptest.NewRecorder()
	to.ServeHTTP(w, r)
	return w.Code
}

// A delivery is a hint about a hold of the office's own, if Lockstep has signed it; it is acknowledged when the hint was taken.
func TestOnlyWhatLockstepSaysOfOurHoldsIsAHint(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), servers.Shared(t).Database(t).Migrate, "points")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Within(t.Context(), func(tx saga.Tx) error {
		if _, err := points.Intend(t.Context(), tx, about); err != nil {
			return err
		}
		return points.Note(t.Context(), tx, about.Payment, points.Held, "our hold")
	}); err != nil {
		t.Fatal(err)
	}
	var hinted int
	var fails error
	h := hooks.New(db, hookURL, func(_ context.Context, _ string, c points.Charge) (bool, error) {
		if hinted++; c.Sale != about {
			t.Errorf("a hint about %+v", c.Sale)
		}
		return true, fails
	})
	mux := web.NewMux(slog.New(slog.DiscardHandler), func(context.Context) error { return nil })
	h.Routes(mux)
	for i, c := range []struct {
		what, secret, hold, account, amount string
		status, hinted                      int
	}{
		{"before there is a webhook", secret, "our hold", about.Account, "1000", http.StatusUnauthorized, 0},
		{"forged", otherSecret, "our hold", about.Account, "1000", http.StatusUnauthorized, 0},
		{"about another hold", secret, "another", about.Account, "1000", http.StatusOK, 0},
		{"about another account", secret, "our hold", "another", "1000", http.StatusOK, 0},
		{"about another amount", secret, "our hold", about.Account, "1", http.StatusOK, 0},
		{"about ours", secret, "our hold", about.Account, "1000", http.StatusOK, 1},
		{"about ours, which cannot be taken now", secret, "our hold", about.Account, "1000", http.StatusInternalServerError, 1},
	} {
		if i == 1 {
			if mine, err := h.Replace(t.Context(), "", client.Webhook{ID: "hook", URL: hookURL, Secret: secret}); err != nil || !mine {
				t.Fatalf("the webhook is not kept: %v", err)
			}
		}
		if fails = nil; c.status == http.StatusInternalServerError {
			fails = errors.New("no answer")
		}
		hinted = 0
		if status := tell(t, mux, c.secret, c.hold, c.account, c.amount); status != c.status || hinted != c.hinted {
			t.Errorf("a delivery %s was answered with %d and was %d hints, wanted %d and %d", c.what, status, hinted, c.status, c.hinted)
		}
	}
}
