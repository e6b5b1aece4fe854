package remit_test

import (
	"context"
	"errors"
	"testing"

	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/remit"
)

// lister is a peer that lists one transfer of each payer.
type lister map[string]peers.Listed

func (l lister) TellEpoch(context.Context, string) (int64, error) { return after, nil }

func (l lister) List(_ context.Context, _, payer, _ string, _ int) (peers.ListAnswer, error) {
	answer := peers.ListAnswer{Epoch: after}
	if listed, there := l[payer]; there {
		answer.Transfers = []peers.Listed{listed}
	}
	return answer, nil
}

// What is posted alike on both sides agrees, though the word that it rests on is of a key that is gone. Contents that differ are
// for people to look at.
func TestWhatIsPostedAlikeAgreesWithoutItsWord(t *testing.T) {
	t.Parallel()
	for payer, payee := range map[string]string{"alpha": "beta", "beta": "alpha"} {
		s, desk := newScene(t, payer, payee)
		s.remittance.State = ledger.Posted
		listed := peers.Listed{
			ID: string(s.remittance.ID), State: peers.Committed, Amount: "5", Currency: "KRW", Statement: "of a key that is gone",
			Payer: peers.Account{Account: string(s.remittance.Transfer.From)}, Payee: peers.Account{Account: string(s.remittance.Transfer.To)},
		}
		for amount, want := range map[string]remit.Reconciled{"5": {Agreed: 1}, "6": {Conflicts: []string{""}}} {
			listed.Amount = amount
			reconciler := remit.Reconciler{
				Desk: desk, Informant: lister{payer: listed},
				ReadOwn: func(string) (fact peers.Fact, err error) { return fact, errors.New("an unknown key") },
				Raise:   func(context.Context, string, int64) error { return nil },
			}
			got, err := reconciler.Peer(t.Context(), "beta")
			if err != nil || got.Agreed != want.Agreed || len(got.Conflicts) != len(want.Conflicts) || len(s.submitted) > 0 {
				t.Errorf("%s pays %s: %+v, %v, submitted %v", payer, amount, got, err, s.submitted)
			}
		}
	}
}
