package verify_test

import (
	"database/sql"
	"strings"
	"testing"

	"lockstep/node/ledger"
)

// world is two systems that exchange money, whose engines are told by the test what they would tell one another.
type world struct {
	testing.TB
	alpha, beta *party
	ids         map[string]ledger.TransferID // of transfers in a certain state, by its name
}

// party is one of the systems.
type party struct {
	*books
	account ledger.Number
	peer    ledger.Peer // the other one
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{TB: tb, ids: map[string]ledger.TransferID{}}
	w.alpha, w.beta = newParty(tb, "alpha", "beta"), newParty(tb, "beta", "alpha")
	return w
}

func newParty(tb testing.TB, system, peer string) *party {
	tb.Helper()
	p := &party{books: newBooksOf(tb, system)}
	p.peer, p.account = p.join(peer), p.open("KRW", 0)
	p.do(0, deposit(p.account, 1_000_000))
	return p
}

func (w *world) dsns() []string {
	return []string{w.alpha.database.Source, w.beta.database.Source}
}

// hold begins a transfer from one system to the other.
func (w *world) hold(from, to *party, minor int64) ledger.Remit {
	w.Helper()
	r := remit(from.peer, from.account, to.account, minor)
	from.do(0, r)
	return r
}

// promised is hold, and what it leads to in the other system.
func (w *world) promised(from, to *party, minor int64) (ledger.Remit, ledger.Promise) {
	w.Helper()
	r := w.hold(from, to, minor)
	p := promise(to.peer, r)
	to.hear(0, prepare(p))
	return r, p
}

// pay brings a transfer to its end on both sides.
func (w *world) pay(from, to *party, minor int64) ledger.TransferID {
	w.Helper()
	r, p := w.promised(from, to, minor)
	from.hear(0, pivot(r))
	to.hear(0, credit(p))
	return r.ID
}

// giveUp aborts a transfer on both sides.
func (w *world) giveUp(from, to *party, minor int64) ledger.TransferID {
	w.Helper()
	r, p := w.promised(from, to, minor)
	from.hear(0, abort(r))
	to.hear(0, ledger.Release{Promise: p})
	return r.ID
}

// fill leaves transfers in every state that two systems can be in together.
func (w *world) fill() {
	w.Helper()
	w.ids["done"] = w.pay(w.alpha, w.beta, 100)
	w.ids["back"] = w.pay(w.beta, w.alpha, 70)
	w.ids["aborted"] = w.giveUp(w.alpha, w.beta, 5)
	w.ids["lonely"] = w.hold(w.alpha, w.beta, 7).ID
	promised, _ := w.promised(w.alpha, w.beta, 11)
	aborting, _ := w.promised(w.alpha, w.beta, 13)
	w.alpha.hear(0, abort(aborting))
	flying, _ := w.promised(w.alpha, w.beta, 17)
	w.alpha.hear(0, pivot(flying))
	homing, _ := w.promised(w.beta, w.alpha, 19)
	w.beta.hear(0, pivot(homing))

	nobody := remit(w.alpha.peer, w.alpha.account, ledger.NewNumber("beta", 999_999), 23)
	w.alpha.do(0, nobody)
	w.beta.hear(0, prepare(promise(w.beta.peer, nobody)))
	w.alpha.hear(0, abort(nobody))
	closed := w.hold(w.alpha, w.beta, 29)
	w.beta.hear(0, ledger.Close{ID: closed.ID, Payer: "alpha", Payee: "beta"})

	w.ids["promised"], w.ids["aborting"], w.ids["flying"], w.ids["homing"] = promised.ID, aborting.ID, flying.ID, homing.ID
	w.ids["refused"], w.ids["closed"] = nobody.ID, closed.ID
}

// underWay begins transfers, and answers with the steps by which each goes on from where it is.
func (w *world) underWay(from, to *party) []func() {
	w.Helper()
	held, gone := w.hold(from, to, 1), w.hold(from, to, 2)
	promised, _ := w.promised(from, to, 3)
	rushed, promise2 := w.promised(from, to, 4)
	failed, promise3 := w.promised(from, to, 5)
	decided, promise4 := w.promised(from, to, 6)
	from.hear(0, pivot(decided))
	aborted, promise5 := w.promised(from, to, 7)
	from.hear(0, abort(aborted))
	return []func(){
		func() { to.hear(0, prepare(promise(to.peer, held))) },
		func() { from.hear(0, abort(gone)) },
		func() { from.hear(0, pivot(promised)) },
		func() { from.hear(0, pivot(rushed)); to.hear(0, credit(promise2)) },
		func() { from.hear(0, abort(failed)); to.hear(0, ledger.Release{Promise: promise3}) },
		func() { to.hear(0, credit(promise4)) },
		func() { to.hear(0, ledger.Release{Promise: promise5}) },
		func() { w.pay(from, to, 8) },
		func() { w.giveUp(from, to, 9) },
		func() { w.promised(from, to, 10) },
	}
}

// named puts ids in for the names of transfers, in braces.
func (w *world) named(statement string) string {
	for name, id := range w.ids {
		statement = strings.ReplaceAll(statement, "{"+name+"}", "'"+string(id)+"'")
	}
	return statement
}

// touched are the tables that corruptions change.
var touched = []string{"remittances", "transfers", "exposures", "accounts", "`system`"}

// keep copies the tables for restore.
func (p *party) keep() (restore func()) {
	p.Helper()
	for _, table := range touched {
		p.execute("CREATE TABLE " + copied(table) + " AS SELECT * FROM " + table)
	}
	return func() {
		p.Helper()
		for _, table := range touched {
			p.execute("DELETE FROM "+table, "INSERT INTO "+table+" SELECT * FROM "+copied(table))
		}
	}
}

func copied(table string) string { return "kept_" + strings.Trim(table, "`") }

// execute runs statements as root, without CHECKs.
func (p *party) execute(statements ...string) {
	p.Helper()
	db, err := sql.Open("mysql", p.database.Admin)
	p.must(err)
	defer db.Close()
	conn, err := db.Conn(p.Context())
	p.must(err)
	defer conn.Close()
	for _, statement := range append([]string{"SET check_constraint_checks = 0"}, statements...) {
		result, err := conn.ExecContext(p.Context(), statement)
		if err != nil {
			p.Fatalf("%s: %v", statement, err)
		}
		if changed, err := result.RowsAffected(); strings.HasPrefix(statement, "UPDATE") && (err != nil || changed == 0) {
			p.Errorf("changed nothing (%v): %s", err, statement)
		}
	}
}
