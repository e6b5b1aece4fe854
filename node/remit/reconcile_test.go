package remit_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/remit"
)

// lister is a peer that has the rows of its shelf, and counts what it is asked.
type lister struct {
	shelf
	old                    bool // of before there were digests: what answers is not even signed
	most                   int  // transfers of which it makes a digest in time; 0 is any number
	epoch                  int64
	digests, pages, listed int
}

func (l *lister) TellEpoch(context.Context, string) (int64, error) { return after, nil }

func (l *lister) Digest(ctx context.Context, _, payer, after, until string) (peers.DigestAnswer, error) {
	if l.old {
		return peers.DigestAnswer{}, peers.ErrUnavailable
	}
	l.digests++
	digest, err := l.RemittancesDigest(ctx, payer, "", ledger.TransferID(after), ledger.TransferID(until), remit.DigestMax+1)
	if l.most > 0 && digest.Count > l.most {
		return peers.DigestAnswer{}, peers.ErrUnavailable
	}
	return peers.DigestAnswer{Epoch: l.epoch, Count: digest.Count, Digest: digest.Sum()}, err
}

func (l *lister) List(_ context.Context, _, payer, cursor string, limit int) (peers.ListAnswer, error) {
	answer := peers.ListAnswer{Epoch: l.epoch}
	l.pages++
	for _, id := range slices.Sorted(maps.Keys(l.rows)) {
		r := l.rows[id]
		if r.Payer != payer || string(id) <= cursor {
			continue
		}
		if len(answer.Transfers) == limit {
			answer.NextCursor = answer.Transfers[limit-1].ID
			break
		}
		state := map[ledger.State]string{ledger.Posted: peers.Committed, ledger.Pending: peers.Pending, ledger.Voided: peers.Aborted}[r.State]
		answer.Transfers = append(answer.Transfers, peers.Listed{
			ID: string(id), State: state, Amount: r.Transfer.Amount.Decimal(), Currency: string(r.Transfer.Amount.Currency), Statement: "of a key that is gone",
			Payer: peers.Account{Account: string(r.Transfer.From)}, Payee: peers.Account{Account: string(r.Transfer.To)},
		})
		l.listed++
	}
	return answer, nil
}

// RemittancesDigest implements remit.Books; the rows are between two systems only.
func (s shelf) RemittancesDigest(_ context.Context, payer, _ string, after, until ledger.TransferID, limit int) (*ledger.Digest, error) {
	digest := ledger.NewDigest()
	for _, id := range slices.Sorted(maps.Keys(s.rows)) {
		r := s.rows[id]
		if r.Payer == payer && id > after && (until == "" || id <= until) && (r.State == ledger.Pending || r.State == ledger.Posted) && digest.Count < limit {
			digest.Add(id, r.State, r.Transfer.From, r.Transfer.To, r.Transfer.Amount)
		}
	}
	return digest, nil
}

// books are those of the system that reconciles.
type books struct{ shelf }

func (books) Epoch() int64     { return after }
func (books) Reconciled() bool { return false }

// row is the n-th transfer that the payer pays.
func row(payer string, n int, state ledger.State) ledger.Remittance {
	payee := map[string]string{"alpha": "beta", "beta": "alpha"}[payer]
	id := ledger.TransferID(fmt.Sprintf("0197a0b2-0000-7000-8000-%012d", n))
	return ledger.Remittance{ID: id, Payer: payer, Payee: payee, State: state, Transfer: &ledger.Transfer{
		From: ledger.NewNumber(payer, 1000), To: ledger.NewNumber(payee, 1000), Amount: ledger.Money{Minor: 5, Currency: "KRW"},
	}}
}

// reconciled is what a reconciliation of alpha's rows with beta's finds.
func reconciled(t *testing.T, ours, theirs []ledger.Remittance, peer *lister) (remit.Reconciled, []ledger.Operation, error) {
	t.Helper()
	own := books{shelf{rows: map[ledger.TransferID]ledger.Remittance{}}}
	peer.rows, peer.epoch = map[ledger.TransferID]ledger.Remittance{}, cmp.Or(peer.epoch, after)
	for _, r := range ours {
		own.rows[r.ID] = r
	}
	for _, r := range theirs {
		peer.rows[r.ID] = r
	}
	engine := &scene{remittance: row("alpha", 0, ledger.Voided)}
	desk, err := remit.Open(t.Context(), remit.DefaultConfig(), own, engine, teller{}, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(desk.Close)
	reconciler := remit.Reconciler{
		Desk: desk, Informant: peer, Span: 1600, Raise: func(context.Context, string, int64) error { return nil },
		ReadOwn: func(string) (fact peers.Fact, err error) { return fact, errors.New("an unknown key") },
	}
	done, err := reconciler.Peer(t.Context(), "beta")
	return done, engine.submitted, err
}

// What is posted alike on both sides agrees, though the word that it rests on is of a key that is gone. Contents that differ are
// for people to look at.
func TestWhatIsPostedAlikeAgreesWithoutItsWord(t *testing.T) {
	t.Parallel()
	for _, payer := range []string{"alpha", "beta"} {
		for amount, want := range map[int64]remit.Reconciled{5: {Agreed: 1}, 6: {Conflicts: []string{""}}} {
			for _, old := range []bool{false, true} {
				theirs := row(payer, 1, ledger.Posted)
				theirs.Transfer.Amount.Minor = amount
				got, submitted, err := reconciled(t, []ledger.Remittance{row(payer, 1, ledger.Posted)}, []ledger.Remittance{theirs}, &lister{old: old})
				if err != nil || got.Agreed != want.Agreed || len(got.Conflicts) != len(want.Conflicts) || len(submitted) > 0 {
					t.Errorf("%s pays %d: %+v, %v, submitted %v", payer, amount, got, err, submitted)
				}
			}
		}
	}
}

// What a peer lists under no id is for people to look at; it is neither closed nor in the way of the rest.
func TestWhatIsListedWithoutAnIDIsAConflict(t *testing.T) {
	t.Parallel()
	odd, good := row("alpha", 1, ledger.Pending), row("alpha", 2, ledger.Pending)
	odd.ID = "nöne"
	got, submitted, err := reconciled(t, nil, []ledger.Remittance{odd, good}, &lister{})
	if err != nil || len(got.Conflicts) != 1 || got.Closed != 1 || len(submitted) != 1 {
		t.Fatalf("%+v, %v, submitted %v", got, err, submitted)
	}
	if closed, is := submitted[0].(ledger.Close); !is || closed.ID != good.ID {
		t.Errorf("submitted %+v", submitted)
	}
}

// Of many transfers only those are listed that lie near one that differs, and all that differ are found: what is unknown here,
// before, between and behind what is known, and what is in another state.
func TestOnlyWhatDiffersIsListed(t *testing.T) {
	t.Parallel()
	const many, known = 6000, 5900
	for _, missing := range []int{0, 1, 2345, known - 1, many - 1} {
		var ours, theirs []ledger.Remittance
		for n := range many {
			r := row("alpha", n, ledger.Posted)
			if n%100 == 50 { // given up there, unknown here: nothing to talk about
				r.State = ledger.Voided
			} else if n < known && n != missing {
				ours = append(ours, r)
			}
			if n >= known && n != missing {
				continue
			}
			if n == missing {
				r.State = ledger.Pending
			}
			theirs = append(theirs, r)
		}
		peer := &lister{}
		got, submitted, err := reconciled(t, ours, theirs, peer)
		if err != nil || got.Closed != 1 || len(submitted) != 1 || len(got.Conflicts) > 0 {
			t.Errorf("without %d: %+v, %v, submitted %v", missing, got, err, submitted)
			continue
		}
		if closed, is := submitted[0].(ledger.Close); !is || closed.ID != row("alpha", missing, "").ID {
			t.Errorf("without %d: submitted %+v", missing, submitted)
		}
		if peer.digests > 25 || peer.listed > 500 {
			t.Errorf("without %d: it took %d digests and %d pages of %d transfers", missing, peer.digests, peer.pages, peer.listed)
		}
	}
}

// A peer for which the first digest takes too long gives smaller ones, and all the rest in that size.
func TestASlowDigestIsAskedForLess(t *testing.T) {
	t.Parallel()
	const many = 3000
	var all []ledger.Remittance
	for n := range many {
		all = append(all, row("alpha", n, ledger.Posted))
	}
	peer := &lister{most: 300}
	got, _, err := reconciled(t, all, all, peer)
	if err != nil || got.Agreed != many || peer.listed > 0 || peer.digests > 20 {
		t.Errorf("%+v, %v: %d transfers were listed after %d digests", got, err, peer.listed, peer.digests)
	}
}

// A peer that begins an epoch meanwhile may have lost what its digest stands for.
func TestADigestOfAnotherEpochIsNotBelieved(t *testing.T) {
	t.Parallel()
	all := []ledger.Remittance{row("alpha", 1, ledger.Posted)}
	if got, _, err := reconciled(t, all, all, &lister{epoch: after + 1}); err == nil || got.Agreed > 0 {
		t.Errorf("%+v, %v", got, err)
	}
}
