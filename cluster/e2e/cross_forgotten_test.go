package e2e_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"lockstep/api/auth"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
)

// nodesOf names the nodes of a side.
func (x *crossing) nodesOf(side int) (names []string) {
	for n := range x.sides[side].nodes {
		names = append(names, fmt.Sprintf("%s-node-%d", x.systemOf(side), n+1))
	}
	return names
}

// keepDown kills processes, which stay away until they are brought up.
func (x *crossing) keepDown(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := x.Kill(name, true); err != nil {
			t.Fatal(err)
		}
	}
}

// bringUp starts a side's nodes and waits until they serve, through the balancer as well.
func (x *crossing) bringUp(t *testing.T, side int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startMax)
	defer cancel()
	for _, name := range x.nodesOf(side) {
		if err := x.StartProcess(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	x.balanced(t, side)
}

// until waits for a load to have so many payments acknowledged, as long as it goes on to make some.
func (l *crossLoad) until(tb testing.TB, count int64) {
	tb.Helper()
	for l.total() < count {
		before := l.total()
		eventually(tb, fmt.Sprintf("one more of %d payments is acknowledged", count), func() bool { return l.total() > before })
	}
}

// times is how often clients heard an answer.
func (l *crossLoad) times(answer string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard[answer]
}

// moment is how things stood after commits were lost and before anything was reconciled.
type moment struct {
	books     [2]standing
	answered  map[string]bool // payments that clients had been acknowledged
	forgetful []string
}

// atLoss remembers the moment.
func (r *record) atLoss(t *testing.T, x *crossing, forgetful ...string) moment {
	t.Helper()
	at := moment{x.standings(t), map[string]bool{}, forgetful}
	r.mu.Lock()
	defer r.mu.Unlock()
	for reference := range r.posted {
		at.answered[reference] = true
	}
	return at
}

// knew tells whether a system still knew that a transfer was decided.
func (m moment) knew(id string) bool {
	return m.books[0].remitted[id].state == "posted" || m.books[1].remitted[id].state == "posted"
}

// lost is what was acknowledged, by the sides that pay it, and is not booked in the system that has forgotten it.
func (r *record) lost(both [2]standing, x *crossing, forgetful int) (lost [2][]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, told := range r.posted {
		payer := slices.Index(x.options.Systems, ledger.Number(told.from).System())
		if payer >= 0 && both[forgetful].remitted[told.id].state != "posted" {
			lost[payer] = append(lost[payer], told.id)
		}
	}
	return lost
}

// refusesUnknown asks a system that has forgotten transfers about them, in the name of the other: it can neither deny them
// nor promise that they will never be. It is answered with 503, and nothing is written.
func (x *crossing) refusesUnknown(t *testing.T, forgetful int, lost [2][]string) {
	t.Helper()
	const most = 3
	asker, asked := x.voice(t, 1-forgetful), 0
	for payer, ids := range lost {
		unknown := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return x.stateOf(t, forgetful, id) != "none" })
		unknown = unknown[:min(len(unknown), most)]
		for _, wish := range []string{peers.Report, peers.Close} {
			if len(unknown) == 0 {
				continue
			}
			answer, err := asker.Inquire(t.Context(), x.systemOf(forgetful), x.systemOf(payer), wish, unknown...)
			if !errors.Is(err, peers.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), "answered 503") {
				t.Errorf("the unreconciled %s is asked to %s %v: %+v, %v", x.systemOf(forgetful), wish, unknown, answer, err)
			}
			for _, id := range unknown {
				if state := x.stateOf(t, forgetful, id); state != "none" {
					t.Errorf("to be asked about %s made it %s", id, state)
				}
				asked++
			}
		}
	}
	if asked == 0 {
		t.Errorf("%s knows all transfers that it was to have forgotten", x.systemOf(forgetful))
	}
}

// stateOf is how a system calls a transfer, by its database.
func (x *crossing) stateOf(t *testing.T, side int, id string) (state string) {
	t.Helper()
	x.onSource(t, side, func(db *sql.DB) error {
		return db.QueryRow("SELECT COALESCE((SELECT state FROM remittances WHERE id = ?), 'none')", id).Scan(&state)
	})
	return state
}

func (x *crossing) onSource(t *testing.T, side int, work func(*sql.DB) error) {
	t.Helper()
	onServer(t, x.sides[side].source, work)
}

func onServer(t *testing.T, dsn string, work func(*sql.DB) error) {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := work(db); err != nil {
		t.Fatal(err)
	}
}

// voice speaks to other systems with a system's own keys, behind its nodes' backs. It leaves one alone that has failed five times.
func (x *crossing) voice(t *testing.T, side int) *peers.Client {
	t.Helper()
	parsed, err := mysql.ParseDSN(x.sides[side].source)
	if err != nil {
		t.Fatal(err)
	}
	parsed.ParseTime, parsed.Loc = true, time.UTC
	db, err := sql.Open("mysql", parsed.FormatDSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	log := slog.New(slog.DiscardHandler)
	keys, err := auth.OpenPeerKeys(t.Context(), auth.Config{System: x.systemOf(side), Secret: x.sealOf(t, side), DB: db, Clock: time.Now, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	load := func(ctx context.Context) (list []peers.Peer, err error) {
		peer := peers.Peer{}
		err = db.QueryRowContext(ctx, "SELECT id, base_url, jwks, epoch FROM peers").Scan(&peer.ID, &peer.BaseURL, &peer.JWKS, &peer.Epoch)
		return []peers.Peer{peer}, err
	}
	directory, err := peers.OpenDirectory(t.Context(), x.systemOf(side), keys, load, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(directory.Close)
	var epoch int64
	if err := db.QueryRow("SELECT epoch FROM `system`").Scan(&epoch); err != nil {
		t.Fatal(err)
	}
	speaker := peers.NewClient(directory, func() int64 { return epoch }, prometheus.NewRegistry())
	t.Cleanup(speaker.Close)
	return speaker
}

// sealOf is the secret that a system's keys are sealed with.
func (x *crossing) sealOf(t *testing.T, side int) string {
	t.Helper()
	var config struct{ Secret string }
	if err := yaml.Unmarshal(x.readConfig(t, side, "setup"), &config); err != nil || config.Secret == "" {
		t.Fatalf("read the secret of %s: %v", x.systemOf(side), err)
	}
	return config.Secret
}

// afterForgetting holds the books of both systems against what clients were told, where systems have forgotten commits. What
// a client was told is there once and alike on both sides, if but one of them knew at the moment that it was decided. What
// both had forgotten is on neither side. Clients that had no answer have repeated their keys, of which their system may have
// forgotten some: again counts those that have paid twice.
func (r *record) afterForgetting(t *testing.T, x *crossing, at moment) (forgotten, again int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	both := x.standings(t)
	acknowledged := 0
	for reference, told := range r.posted {
		side := slices.Index(x.options.Systems, ledger.Number(told.from).System())
		if side < 0 {
			continue // a deposit
		}
		switch there := both[side].remitted[told.id]; {
		case there.state == "posted" && there.from == told.from && there.to == told.to && there.amount == minor(t, told.amount):
			acknowledged++
		case at.knew(told.id) || !slices.Contains(at.forgetful, x.systemOf(side)) || !at.answered[reference]:
			t.Errorf("audit: payment %s was acknowledged as %+v, a system knew it, and the books have %+v", reference, told, there)
		default:
			forgotten++
		}
	}
	again = r.paidOnce(t, x, at, both)
	t.Logf("audit: %d acknowledged payments are in the books of both systems; %d were known to nobody any more; "+
		"%d clients that had no answer have paid again", acknowledged, forgotten, again)
	return forgotten, again
}

// paidOnce requires that the books have no payment but those of the record's clients, each once, and counts those that
// are there again. Every balance follows from them.
func (r *record) paidOnce(t *testing.T, x *crossing, at moment, both [2]standing) (again int) {
	t.Helper()
	balances, paid := map[string]int64{}, map[string][]remitted{}
	for _, told := range r.posted {
		if told.from == "cash" {
			balances[told.to] += minor(t, told.amount)
		}
	}
	for side := range both {
		for _, found := range both[side].remitted {
			if _, ours := r.balances[found.from]; ours && found.payer == x.systemOf(side) && found.state == "posted" {
				paid[found.description] = append(paid[found.description], found)
				balances[found.from] -= found.amount
				balances[found.to] += found.amount
			}
		}
	}
	for reference, found := range paid {
		told := slices.ContainsFunc(found, func(f remitted) bool { return f.id == r.posted[reference].id })
		switch {
		case told && len(found) == 1:
		case told && len(found) == 2 && !at.answered[reference] && slices.Contains(at.forgetful, found[0].payer):
			again++
		default:
			t.Errorf("audit: payment %q is in the books as %+v; its client was told of %+v (refused: %t)", reference, found, r.posted[reference], r.refused[reference])
		}
	}
	for number := range r.balances {
		side := slices.Index(x.options.Systems, ledger.Number(number).System())
		if found := both[side].accounts[ledger.Number(number).Serial()]; found != (ownBalance{posted: balances[number]}) {
			t.Errorf("audit: %s has %+v, and by its payments %d", number, found, balances[number])
		}
	}
	return again
}

// provesAll requires that `lockstep verify --all` finds nothing.
func (x *crossing) provesAll(t *testing.T) {
	t.Helper()
	out, err := lockstep(t, "verify", "--all", "--settled-within", alikeMaxWait.String(), "--dsn", x.sides[0].source, "--dsn", x.sides[1].source)
	if err != nil {
		t.Errorf("lockstep verify --all: %v\n%s", err, out)
	}
}
