package verify_test

import (
	"time"

	"github.com/google/uuid"

	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
)

// epoch is that of all systems of the tests.
const epoch = 1

// join makes a peer known.
func (b *books) join(peer string) ledger.Peer {
	b.Helper()
	b.must(b.store.PutPeer(b.Context(), store.PeerRow{ID: peer, BaseURL: "http://127.0.0.1:1", JWKS: "{}", Epoch: epoch}))
	known := ledger.Peer{System: peer}
	row := b.store.Source().QueryRowContext(b.Context(), "SELECT settlement FROM peers WHERE id = ?", peer)
	b.must(row.Scan(&known.Settlement))
	return known
}

// hear has one of the nodes carry out a step that comes without a client's key.
func (b *books) hear(node int, operation ledger.Operation) ledger.Result {
	b.Helper()
	outcome, err := b.nodes[node].Submit(b.Context(), posting.Command{Operation: operation})
	b.must(err)
	if outcome.Refusal != nil {
		b.Fatalf("%T was refused: %v", operation, outcome.Refusal)
	}
	return outcome.Result
}

func remit(peer ledger.Peer, from, to ledger.Number, minor int64) ledger.Remit {
	return ledger.Remit{
		ID: ledger.TransferID(uuid.Must(uuid.NewV7()).String()), Actor: actor, Peer: peer, From: from, To: to,
		Amount: ledger.Money{Minor: minor, Currency: "KRW"}, Epoch: epoch, ExpiresIn: time.Minute, LookAfter: time.Hour,
	}
}

// pivot and abort decide what was remitted.
func pivot(r ledger.Remit) ledger.Conclude {
	return ledger.Conclude{
		ID: r.ID, Peer: r.Peer, From: r.From, Currency: r.Amount.Currency, End: ledger.Posted, PayeeEpoch: epoch, Epoch: epoch,
	}
}

func abort(r ledger.Remit) ledger.Conclude {
	c := pivot(r)
	c.End, c.PayeeEpoch, c.Failure = ledger.Voided, 0, ledger.PeerUnavailable
	return c
}

// promise is what the payee's system hears of a remittance from the peer that pays.
func promise(payer ledger.Peer, r ledger.Remit) ledger.Promise {
	return ledger.Promise{ID: r.ID, Peer: payer, Epoch: epoch, From: r.From, To: r.To, Amount: r.Amount}
}

func prepare(p ledger.Promise) ledger.Prepare {
	return ledger.Prepare{Promise: p, OwnEpoch: epoch, AskAfter: time.Minute}
}

func credit(p ledger.Promise) ledger.Credit {
	return ledger.Credit{Promise: p, PayeeEpoch: epoch, OwnEpoch: epoch, Statement: "signed"}
}

// logSagas gives what is open a saga's row.
func (b *books) logSagas() {
	b.Helper()
	logged, err := b.store.LogOpenSagas(b.Context(), 100)
	b.must(err)
	if logged == 0 {
		b.Fatal("nothing was open")
	}
}

// exchange leaves transfers from and to beta in every state that they can be in; there is no beta that knows them.
func (b *books) exchange(one, two ledger.Number) {
	b.Helper()
	beta := b.join("beta")
	theirs := ledger.NewNumber("beta", 1000)

	b.do(0, remit(beta, one, theirs, 11)) // stays pending
	b.refused(0, ledger.InsufficientFunds, remit(beta, one, theirs, 1_000_000))
	voided, posted := remit(beta, one, theirs, 13), remit(beta, two, theirs, 17)
	b.do(0, voided)
	b.do(1, posted)
	b.logSagas() // these had to be looked after
	b.hear(1, abort(voided))
	b.hear(0, pivot(posted))
	b.hear(0, ledger.NoteCredit{IDs: []ledger.TransferID{posted.ID}, Peer: beta, Epoch: epoch, Currency: posted.Amount.Currency})

	promised := func(to ledger.Number, minor int64) ledger.Promise {
		p := promise(beta, remit(beta, theirs, to, minor))
		b.hear(0, prepare(p))
		return p
	}
	promised(two, 19) // stays pending
	b.logSagas()
	b.do(0, remit(beta, one, theirs, 5)) // stays pending, and nobody has had to look after it
	promised(ledger.NewNumber(b.system, 999_999), 23)
	b.hear(1, ledger.Release{Promise: promised(one, 29)})
	b.hear(0, credit(promised(one, 31)))
	b.hear(1, ledger.Release{Promise: promise(beta, remit(beta, theirs, one, 37))})
	b.hear(0, ledger.Close{ID: remit(beta, one, theirs, 1).ID, Payer: b.system, Payee: "beta"})
	forgotten := credit(promise(beta, remit(beta, theirs, ledger.NewNumber(b.system, 999_998), 41)))
	forgotten.PayeeEpoch--
	b.hear(1, forgotten) // to suspense; its return stays pending
	returned := credit(promise(beta, remit(beta, theirs, ledger.NewNumber(b.system, 999_997), 43)))
	returned.PayeeEpoch--
	b.hear(1, returned)
	b.hear(0, ledger.Conclude{
		ID: ledger.ReturnOf(returned.ID), Peer: beta, From: returned.To, Currency: returned.Amount.Currency, End: ledger.Posted, PayeeEpoch: epoch, Epoch: epoch,
	})
}
