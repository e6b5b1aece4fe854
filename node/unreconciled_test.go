package node_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/api/auth"
	"lockstep/api/client"
	"lockstep/cluster/events"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

// voice speaks as a system does, with its keys, behind its node's back.
type voice struct {
	*system
	*peers.Client
	directory *peers.Directory
}

// speak answers as the system is now: its epoch is read once.
func (s *system) speak(epoch int64) voice {
	s.Helper()
	config := store.Default()
	config.System, config.Source, config.Logger = s.id, s.database.Source, storetest.Logger(s)
	db := storetest.OpenWith(s, config)
	keys, err := auth.OpenPeerKeys(s.context(), auth.Config{System: s.id, Secret: secret, DB: db.Source(), Clock: db.Now, Logger: config.Logger})
	must(s, err)
	load := func(ctx context.Context) (list []peers.Peer, err error) {
		_, err = db.Read(ctx, store.Consistency{Source: true}, func(ctx context.Context, q *store.Queries) error {
			rows, err := q.Peers(ctx)
			for _, row := range rows {
				list = append(list, peers.Peer{ID: row.ID, Settlement: int64(row.Settlement), BaseURL: row.BaseURL, JWKS: row.JWKS, Epoch: row.Epoch})
			}
			return err
		})
		return list, err
	}
	directory, err := peers.OpenDirectory(s.context(), s.id, keys, load, config.Logger)
	must(s, err)
	s.Cleanup(directory.Close)
	speaker := peers.NewClient(directory, func() int64 { return epoch }, prometheus.NewRegistry())
	s.Cleanup(speaker.Close)
	return voice{s, speaker, directory}
}

// prepares asks the other system to promise a transfer that this one knows nothing of.
func (v voice) prepares(other *system, from, to, amount string) peers.Transfer {
	v.Helper()
	transfer := peers.Transfer{
		ID: uuid.Must(uuid.NewV7()).String(), Payer: peers.Account{Account: from}, Payee: peers.Account{Account: to},
		Amount: amount, Currency: krw, ExpiresInMS: time.Hour.Milliseconds(),
	}
	result, err := v.Prepare(v.context(), other.id, transfer)
	must(v, err)
	if result.State != peers.Reserved {
		v.Fatalf("%s answers the prepare with %+v", other.id, result)
	}
	return transfer
}

// state is how a system calls a transfer.
func (s *system) state(id string) string {
	s.Helper()
	var state string
	must(s, s.root.QueryRowContext(s.context(), "SELECT COALESCE((SELECT state FROM remittances WHERE id = ?), 'none')", id).Scan(&state))
	return state
}

// While a system is unreconciled, peers hear of what it knows, and nothing of what it does not: that is neither denied, nor
// closed, nor promised anew.
func TestAnUnreconciledSystemClosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	payer, payee := w.beta.funded("50"), w.alpha.funded("1")
	known, err := w.beta.client.Transfer(w.context(), client.Payment{From: payer, To: payee, Amount: "5", Currency: krw})
	must(t, err)
	w.settle()
	w.alpha.restore(w.alpha.backup())
	beta := w.beta.speak(1)
	for _, wish := range []string{peers.Report, peers.Close} {
		for _, payer := range []string{"alpha", "beta"} {
			unknown := uuid.Must(uuid.NewV7()).String()
			if answer, err := beta.Inquire(w.context(), "alpha", payer, wish, unknown); !errors.Is(err, peers.ErrUnavailable) || w.alpha.state(unknown) != "none" {
				t.Errorf("an unknown id paid by %s, to %s: %+v, %v, and is %s there", payer, wish, answer, err, w.alpha.state(unknown))
			}
		}
	}
	answer, err := beta.Inquire(w.context(), "alpha", "beta", peers.Close, known.ID)
	must(t, err)
	if answer.Results[0].State != peers.Committed {
		t.Errorf("a known id is %s", answer.Results[0].State)
	}
	asked := peers.Transfer{
		ID: uuid.Must(uuid.NewV7()).String(), Payer: peers.Account{Account: payer}, Payee: peers.Account{Account: payee}, Amount: "1", Currency: krw,
	}
	if result, err := beta.Prepare(w.context(), "alpha", asked); err != nil || result.State != peers.Later || w.alpha.state(asked.ID) != "none" {
		t.Errorf("a prepare: %+v, %v, and it is %s there", result, err, w.alpha.state(asked.ID))
	}
	page, err := beta.List(w.context(), "alpha", "beta", "", 10)
	must(t, err)
	if len(page.Transfers) != 1 || page.Transfers[0].ID != known.ID || page.Transfers[0].Statement == "" {
		t.Errorf("the list is %+v", page.Transfers)
	}
}

// A transfer that was held when the backup was made may be credited on the other side. So it is not given up before the
// peer was asked, however old it is, and then it is posted from its hold.
func TestAHeldTransferWaitsForTheReconciliation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	payer, payee := w.alpha.funded("80"), w.beta.funded("1")
	w.beta.stop()
	ctx, leave := context.WithCancel(w.context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = w.alpha.client.Transfer(ctx, client.Payment{From: payer, To: payee, Amount: "30", Currency: krw}) // nobody can say yet
	}()
	w.eventually("the transfer is held", func() bool {
		return w.alpha.number("SELECT COUNT(*) FROM remittances WHERE state = 'pending'") == 1
	})
	leave()
	<-left
	backup := w.alpha.backup()
	w.beta.start()
	w.settle()
	if got := w.beta.posted(payee); got != "31" {
		t.Fatalf("the payee has %s; the transfer was given up before the test began", got)
	}
	w.alpha.restore(backup)
	attempts := "SELECT COALESCE(MAX(attempt), 0) FROM sagas WHERE kind = 'remit'"
	before := w.alpha.number(attempts)
	_, err := w.alpha.root.ExecContext(w.context(), "UPDATE remittances SET expires_at = UTC_TIMESTAMP(6)")
	must(t, err)
	w.eventually("the transfer is overdue, and its saga was looked at", func() bool {
		return w.alpha.number("SELECT expires_at < UTC_TIMESTAMP(6) FROM remittances") == 1 && w.alpha.number(attempts) > before+1
	})
	if n := w.alpha.number("SELECT COUNT(*) FROM remittances WHERE state = 'pending'"); n != 1 {
		t.Fatal("a transfer of an earlier epoch was decided before the reconciliation")
	}
	w.alpha.reconciles("1 posted from their hold")
	w.settle()
	if got := w.alpha.posted(payer); got != "50" {
		t.Errorf("the payer has %s, wanted 50", got)
	}
	w.verify()
}

// A payee that has missed the payer's word asks for it, and a payer that still knows the transfer says it again under its
// new epoch: what it said before the restore counts no more.
func TestAPayerThatStillKnowsSaysItAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	payer, payee := w.alpha.funded("60"), w.beta.funded("1")
	w.broker.Close() // no word arrives by itself
	transfer, err := w.alpha.client.Transfer(w.context(), client.Payment{From: payer, To: payee, Amount: "25", Currency: krw})
	must(t, err)
	w.alpha.stop() // before beta asks
	if state := w.alpha.state(transfer.ID) + " " + w.beta.state(transfer.ID); state != "posted pending" {
		t.Fatalf("the transfer is %s", state)
	}
	w.alpha.restore(w.alpha.backup())
	w.alpha.reconciles("alpha is ready", "1 agreed")
	w.eventually("the payee has asked and heard", func() bool { return w.beta.posted(payee) == "26" })
	w.verify()
}

// What the peer holds and a restored payer has forgotten is given up, and what the payer said of it in an earlier epoch
// changes nothing any more, however late it comes.
func TestAWordOfAnEarlierEpochChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	payer, payee := w.alpha.funded("90"), w.beta.funded("1")
	backup := w.alpha.backup()
	old := w.alpha.speak(1)
	promised := old.prepares(w.beta, payer, payee, "40")
	w.alpha.restore(backup)
	w.alpha.reconciles("alpha is ready")
	w.eventually("the promise has ended", func() bool { return w.beta.state(promised.ID) == "voided" })
	never := promised
	never.ID = uuid.Must(uuid.NewV7()).String()
	var late []events.Event
	for _, transfer := range []peers.Transfer{promised, never} {
		fact := peers.Fact{
			ID: transfer.ID, Type: ledger.EventCommitted, From: "alpha", To: "beta", Epoch: 1, Payer: payer, Payee: payee,
			Amount: transfer.Amount, Currency: krw, At: time.Now().UTC(),
		}
		word, err := old.directory.State(fact)
		must(t, err)
		late = append(late, events.Event{ID: fact.ID, Source: "lockstep:alpha", Type: "lockstep." + fact.Type, Epoch: 1, Statement: word})
	}
	w.alpha.publish("committed", late)
	w.eventually("both words were heard as stale", func() bool {
		return w.beta.metric(`lockstep_remit_statements_total{code="stale_epoch",type="transfer.committed"}`) == "2"
	})
	if states := w.beta.state(promised.ID) + " " + w.beta.state(never.ID); states != "voided none" {
		t.Errorf("after the words the transfers are %s", states)
	}
	if got := w.beta.posted(payee); got != "1" {
		t.Errorf("the payee has %s", got)
	}
	w.verify()
}

// publish says something to the other system over the broker, as the system's node would.
func (s *system) publish(what string, list []events.Event) {
	s.Helper()
	config := events.Default()
	config.URL, config.User, config.Password, config.System = s.broker.URL(), s.id, secret, s.id
	bus, err := events.Open(s.context(), config)
	must(s, err)
	defer bus.Close()
	data, err := events.Pack(list)
	must(s, err)
	message := events.Message{
		Subject: events.Transfer(s.id, "beta", what), ID: uuid.NewString(), Data: data, Headers: map[string]string{"Content-Type": events.ContentType},
	}
	s.eventually("the broker takes the message", func() bool { return bus.Publish(s.context(), message) == nil })
}
