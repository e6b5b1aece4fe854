package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

// opening is work that opens an account; its answer names the account, the stored one hides that.
func opening(owner string, runs *atomic.Int32) store.Work {
	return func(ctx context.Context, tx *store.Tx) (answer, stored store.Answer, err error) {
		runs.Add(1)
		account, err := tx.CreateAccount(ctx, ledger.Account{Owner: owner, Currency: "KRW", Status: ledger.Open})
		if err != nil {
			return answer, stored, err
		}
		answer = store.Answer{Status: 201, Location: fmt.Sprint(account.ID), Body: []byte("secret")}
		stored = answer
		stored.Body = []byte("null")
		return answer, stored, nil
	}
}

func accountsOf(tb testing.TB, s *store.Store, owner string) (found []ledger.Account) {
	tb.Helper()
	_, err := s.Read(testContext(tb), store.Consistency{Source: true}, func(ctx context.Context, q *store.Queries) (err error) {
		found, err = q.Accounts(ctx, store.AccountFilter{Owner: owner, Limit: 100})
		return err
	})
	must(tb, err)
	return found
}

func TestOneKeyHasOneEffect(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	var runs, first atomic.Int32
	var group errgroup.Group
	answers := make([]store.Answer, 24)
	for i := range answers {
		group.Go(func() error {
			answer, replayed, token, err := s.Once(testContext(t), claim("k", "body"), opening("client:a", &runs))
			answers[i] = answer
			if !replayed {
				first.Add(1)
			}
			if err == nil && token == "" {
				return errors.New("an answer without a token")
			}
			return err
		})
	}
	must(t, group.Wait())
	if found := accountsOf(t, s, "client:a"); len(found) != 1 || first.Load() != 1 {
		t.Fatalf("one key made %d accounts, and %d answers say that they are the first", len(found), first.Load())
	}
	for _, answer := range answers {
		if answer.Location != answers[0].Location || answer.Status != 201 {
			t.Errorf("one key, two answers: %+v and %+v", answer, answers[0])
		}
	}
	answer, replayed, _, err := s.Once(testContext(t), claim("k", "body"), opening("client:a", &runs))
	if err != nil || !replayed || string(answer.Body) != "null" {
		t.Errorf("a repeat got %q, replayed %v, error %v; wanted the stored answer", answer.Body, replayed, err)
	}
}

func TestAKeyStandsForOneRequest(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	var runs atomic.Int32
	_, _, _, err := s.Once(testContext(t), claim("k", "one"), opening("client:a", &runs))
	must(t, err)
	_, _, _, err = s.Once(testContext(t), claim("k", "two"), opening("client:a", &runs))
	if ledger.CodeOf(err) != ledger.IdempotencyKeyReused {
		t.Errorf("another request with a used key got: %v", err)
	}
	if found := accountsOf(t, s, "client:a"); len(found) != 1 {
		t.Errorf("the second request made an account: there are %d", len(found))
	}
}

func TestARefusalLeavesNothing(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	var runs atomic.Int32
	open := opening("client:a", &runs)
	refusing := func(ctx context.Context, tx *store.Tx) (store.Answer, store.Answer, error) {
		if _, _, err := open(ctx, tx); err != nil {
			return store.Answer{}, store.Answer{}, err
		}
		return store.Answer{}, store.Answer{}, ledger.Refuse(ledger.Forbidden, "no")
	}
	if _, _, _, err := s.Once(testContext(t), claim("k", "body"), refusing); ledger.CodeOf(err) != ledger.Forbidden {
		t.Errorf("the refusal came back as: %v", err)
	}
	broken := func(context.Context, *store.Tx) (store.Answer, store.Answer, error) {
		return store.Answer{}, store.Answer{}, errors.New("bug")
	}
	if _, _, _, err := s.Once(testContext(t), claim("k", "body"), broken); ledger.CodeOf(err) != ledger.Internal {
		t.Errorf("a bug came back as: %v", err)
	}
	var claims int
	must(t, s.Source().QueryRow("SELECT COUNT(*) FROM idempotency").Scan(&claims))
	if found := accountsOf(t, s, "client:a"); claims != 0 || len(found) != 0 {
		t.Errorf("a refusal left %d claims and %d accounts", claims, len(found))
	}
	_, replayed, _, err := s.Once(testContext(t), claim("k", "body"), open)
	if err != nil || replayed {
		t.Errorf("the key of a refusal cannot be used again: replayed %v, %v", replayed, err)
	}
}

func TestAKeyUnderWayIsInProgress(t *testing.T) {
	t.Parallel()
	s := storetest.OpenWith(t, func() store.Config {
		config := quick(t)
		config.IdleTransactionMax = 5 * time.Second
		return config
	}())
	var runs atomic.Int32
	holder := begin(t, s)
	must(t, propose(testContext(t), holder, claimRow(s, claim("k", "body"))))
	_, _, _, err := s.Once(testContext(t), claim("k", "body"), opening("client:a", &runs))
	if ledger.CodeOf(err) != ledger.RequestInProgress || runs.Load() != 0 {
		t.Errorf("a request whose key is under way got: %v, and ran %d times", err, runs.Load())
	}
}

// COMMIT succeeds, but its answer is lost: the claim tells what happened.
func TestALostCommitIsAskedAbout(t *testing.T) {
	t.Parallel()
	config := storetest.Config(t)
	points := &faults{}
	config.Faults = points
	s := storetest.OpenWith(t, config)
	var runs atomic.Int32
	losses := 0
	points.after = func() error {
		if losses++; losses == 1 {
			return errors.New("cut")
		}
		return nil
	}
	answer, replayed, _, err := s.Once(testContext(t), claim("k", "body"), opening("client:a", &runs))
	if err != nil || replayed || string(answer.Body) != "secret" {
		t.Errorf("after a lost COMMIT the caller got %q, replayed %v, %v; wanted the answer itself", answer.Body, replayed, err)
	}

	ctx, cancel := context.WithCancel(testContext(t))
	points.after = func() error { cancel(); return errors.New("cut") }
	_, _, _, err = s.Once(ctx, claim("k2", "body"), opening("client:a", &runs))
	if ledger.CodeOf(err) != ledger.OutcomeUnknown {
		t.Errorf("a lost COMMIT that nobody could ask about got: %v", err)
	}
	if found := accountsOf(t, s, "client:a"); len(found) != 2 {
		t.Errorf("two commits made %d accounts", len(found))
	}
}

// The connection dies before COMMIT arrives: nothing happened, and the second attempt does it.
func TestACommitThatNeverArrivedIsRepeated(t *testing.T) {
	t.Parallel()
	s := storetest.OpenWith(t, storetest.Config(t))
	var runs atomic.Int32
	open := opening("client:a", &runs)
	dying := func(ctx context.Context, tx *store.Tx) (store.Answer, store.Answer, error) {
		answer, stored, err := open(ctx, tx)
		if err == nil && runs.Load() == 1 {
			_, err = s.Source().ExecContext(ctx, "KILL ?", connectionID(t, tx)) // one's own connections need no right
		}
		return answer, stored, err
	}
	answer, replayed, _, err := s.Once(testContext(t), claim("k", "body"), dying)
	if err != nil || replayed || string(answer.Body) != "secret" {
		t.Errorf("after a dead connection the caller got %q, replayed %v, %v", answer.Body, replayed, err)
	}
	if found := accountsOf(t, s, "client:a"); len(found) != 1 {
		t.Errorf("there are %d accounts", len(found))
	}
}
