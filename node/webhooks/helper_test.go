package webhooks_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
	"lockstep/node/webhooks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	shop     = "client:shop"
	patience = 30 * time.Second
)

// world is a database of the test's own, with dispatchers that stand for nodes.
type world struct {
	testing.TB
	storeConfig store.Config
	store       *store.Store
	admin       *sql.DB
	config      webhooks.Config
	log         *slog.Logger
	desk        *webhooks.Desk
	told        map[string][]string // ids that are to arrive, by object, in order
}

// open seals nothing, for what is in hand here is nobody's.
type open struct{}

func (open) Seal(_ string, secret []byte) []byte          { return secret }
func (open) Open(_ string, sealed []byte) ([]byte, error) { return sealed, nil }

func newWorld(tb testing.TB) *world {
	tb.Helper()
	config, database := storetest.Database(tb)
	config.Replicas = nil
	admin, err := sql.Open("mysql", database.Admin)
	must(tb, err)
	tb.Cleanup(func() { _ = admin.Close() })
	w := &world{TB: tb, storeConfig: config, admin: admin, config: webhooks.DefaultConfig(), log: storetest.Logger(tb), told: map[string][]string{}}
	w.store = storetest.OpenWith(tb, config)
	w.config.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	w.config.RetryMin, w.config.RetryMax, w.config.Poll, w.config.Timeout = 100*time.Millisecond, 400*time.Millisecond, 100*time.Millisecond, 6*time.Second
	w.desk = webhooks.NewDesk(w.config, open{}, func(n ledger.Notice) []byte { return []byte(`{"type":"` + n.Event() + `"}`) }, w.store.Now)
	return w
}

// dispatch starts a dispatcher with a store of its own, as another node has; it ends with the test.
func (w *world) dispatch() *webhooks.Dispatcher {
	w.Helper()
	d, err := webhooks.Open(w.context(), w.config, storetest.OpenWith(w, w.storeConfig), open{}, time.Now, prometheus.NewRegistry(), w.log)
	must(w, err)
	w.Cleanup(d.Close)
	return d
}

func (w *world) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.Cleanup(cancel)
	return ctx
}

// change runs work in a transaction.
func (w *world) change(work func(ctx context.Context, tx *store.Tx) error) error {
	w.Helper()
	tx, err := w.store.Begin(w.context())
	must(w, err)
	defer tx.Rollback()
	if err := work(w.context(), tx); err != nil {
		return err
	}
	_, err = tx.Commit(w.context())
	return err
}

// hook makes a webhook of the shop.
func (w *world) hook(url string) (made store.Webhook, secret string) {
	w.Helper()
	return w.hookOf(shop, url)
}

func (w *world) hookOf(principal, url string) (made store.Webhook, secret string) {
	w.Helper()
	must(w, w.change(func(ctx context.Context, tx *store.Tx) (err error) {
		made, secret, err = w.desk.Make(ctx, tx, store.Webhook{Principal: principal, Owner: principal, URL: url})
		return err
	}))
	return made, secret
}

// tell writes deliveries about an object, one for each state, each in a transaction of its own as batches would.
func (w *world) tell(hook store.Webhook, id string, states ...string) {
	w.Helper()
	for _, state := range states {
		notice := ledger.Notice{About: ledger.AboutHold, What: state, ID: id, Owners: []string{shop}, At: w.store.Now().Add(-time.Second)}
		delivery := store.NewDelivery(uuid.Must(uuid.NewV7()).String(), hook.ID, notice, fmt.Appendf(nil, `{"type":%q,"data":{"id":%q}}`, notice.Event(), id))
		must(w, w.change(func(ctx context.Context, tx *store.Tx) error {
			store.InsertDeliveries(tx, []store.Delivery{delivery})
			_, err := tx.Flush(ctx)
			return err
		}))
		w.told[delivery.Object] = append(w.told[delivery.Object], delivery.ID)
	}
}

// count counts deliveries in a state.
func (w *world) count(state string) (n int) {
	w.Helper()
	must(w, w.admin.QueryRowContext(w.context(), "SELECT COUNT(*) FROM webhook_deliveries WHERE state = ?", state).Scan(&n))
	return n
}

func (w *world) exec(query string, args ...any) {
	w.Helper()
	_, err := w.admin.ExecContext(w.context(), query, args...)
	must(w, err)
}

func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			w.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// receiver takes messages, and believes only those that are signed.
type receiver struct {
	testing.TB
	*httptest.Server
	mu       sync.Mutex
	verifier *standardwebhooks.Webhook
	answer   func(id string) int // nil: 204
	taken    []string            // ids, in the order of arrival
	requests int
	unsigned int
}

func newReceiver(tb testing.TB) *receiver {
	tb.Helper()
	r := &receiver{TB: tb}
	r.Server = httptest.NewServer(r)
	tb.Cleanup(r.Close)
	return r
}

func (r *receiver) trust(secret string) {
	r.Helper()
	verifier, err := standardwebhooks.NewWebhook(secret)
	must(r, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.verifier = verifier
}

func (r *receiver) answers(with func(id string) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = with
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	payload, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	if r.verifier == nil || r.verifier.Verify(payload, request.Header) != nil {
		r.unsigned++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	id, status := request.Header.Get("webhook-id"), http.StatusNoContent
	if r.answer != nil {
		status = r.answer(id)
	}
	if status < 300 {
		r.taken = append(r.taken, id)
	}
	w.WriteHeader(status)
}

func (r *receiver) seen() (taken []string, requests, unsigned int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.taken), r.requests, r.unsigned
}

// inOrder requires that what the receiver took first of each object came in the order in which it was told, all of it; what it
// took again it counts.
func (w *world) inOrder(r *receiver) (repeats int) {
	w.Helper()
	taken, _, unsigned := r.seen()
	place := map[string]int{}
	for i, id := range taken {
		if _, there := place[id]; there {
			repeats++
			continue
		}
		place[id] = i
	}
	for object, ids := range w.told {
		for i, id := range ids {
			at, there := place[id]
			if !there {
				w.Errorf("delivery %d of %s never arrived", i, object)
			} else if i > 0 && at < place[ids[i-1]] {
				w.Errorf("delivery %d of %s arrived before the one before it", i, object)
			}
		}
	}
	if unsigned > 0 {
		w.Errorf("%d messages had no good signature", unsigned)
	}
	return repeats
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
