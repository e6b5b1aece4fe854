package posting_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
)

// plain renders results as they are; the same result gives the same bytes.
type plain struct{}

func (plain) Version() int { return 1 }

func (plain) Render(_ int, result ledger.Result, refusal *ledger.Error) store.Answer {
	if refusal == nil {
		body, err := json.Marshal(result)
		if err != nil {
			panic(err)
		}
		return store.Answer{Status: 201, ContentType: "application/json", Body: body}
	}
	status := map[ledger.Code]int{
		ledger.AccountNotFound: 404, ledger.HoldNotFound: 404, ledger.InvalidState: 409, ledger.Forbidden: 403,
	}[refusal.Code]
	if status == 0 {
		status = 422
	}
	return store.Answer{Status: status, ContentType: "application/problem+json", Body: []byte(refusal.Error())}
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

func pay(kind ledger.Kind, from, to ledger.Number, minor int64) ledger.Pay {
	return ledger.Pay{
		ID: ledger.TransferID(newID()), Actor: ledger.Actor{Principal: alice, Depositor: true}, Kind: kind,
		From: from, To: to, Amount: ledger.Money{Minor: minor, Currency: krw},
	}
}

func deposit(to ledger.Number, minor int64) ledger.Pay {
	return pay(ledger.Deposit, ledger.Cash, to, minor)
}

func transfer(from, to ledger.Number, minor int64) ledger.Pay {
	return pay(ledger.Payment, from, to, minor)
}

func hold(account ledger.Number, minor int64, expires time.Duration) ledger.HoldFunds {
	return ledger.HoldFunds{
		ID: ledger.HoldID(newID()), Actor: ledger.Actor{Principal: alice}, Account: account,
		Amount: ledger.Money{Minor: minor, Currency: krw}, ExpiresIn: expires,
	}
}

// asked is a command with a key; the fingerprint covers the operation but for the ids that each request makes anew.
func asked(operation ledger.Operation, key string) posting.Command {
	meaning := operation
	switch o := operation.(type) {
	case ledger.Pay:
		o.ID = ""
		meaning = o
	case ledger.HoldFunds:
		o.ID = ""
		meaning = o
	}
	return posting.Command{
		Operation: operation, Renderer: plain{},
		Claim: &store.Claim{
			Principal: alice, Route: "POST /test", Key: key, Language: "en", RequestID: "request-" + key,
			Fingerprint: sha256.Sum256(fmt.Appendf(nil, "%T%+v", meaning, meaning)),
		},
	}
}

// fresh is a command with a key of its own.
func fresh(operation ledger.Operation) posting.Command { return asked(operation, newID()) }

type result struct {
	posting.Outcome
	err error
}

// ok tells whether the command did what it should.
func (r result) ok() bool { return r.err == nil && r.Answer.Status == 201 }

// code is that of the error or the refusal; "" for a success.
func (r result) code() ledger.Code {
	if r.err == nil && r.Refusal != nil {
		return r.Refusal.Code
	}
	return ledger.CodeOf(r.err)
}

// submit asks within the test's patience.
func (n *node) submit(command posting.Command) result {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	outcome, err := n.engine.Submit(ctx, command)
	return result{outcome, err}
}

// within asks with a deadline.
func (n *node) within(limit time.Duration, command posting.Command) result {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	outcome, err := n.engine.Submit(ctx, command)
	return result{outcome, err}
}

// until asks with a deadline that comes when the signal does.
func (n *node) until(signal <-chan struct{}, command posting.Command) result {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() {
		select {
		case <-signal:
			cancel()
		case <-ctx.Done():
		}
	}()
	outcome, err := n.engine.Submit(ctx, command)
	return result{outcome, err}
}

// noticed is a context that tells when somebody waits for its end.
type noticed struct {
	context.Context
	waits func()
}

func (c noticed) Done() <-chan struct{} {
	c.waits()
	return c.Context.Done()
}

// accepted asks in the background, and returns when the engine has the command: its caller has only to wait.
func (n *node) accepted(command posting.Command) <-chan result {
	n.Helper()
	answered, waits := make(chan result, 1), make(chan struct{})
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		outcome, err := n.engine.Submit(noticed{ctx, sync.OnceFunc(func() { close(waits) })}, command)
		answered <- result{outcome, err}
	}()
	n.await(waits, "the engine has the command")
	return answered
}

// start asks in the background.
func (n *node) start(command posting.Command) <-chan result {
	answered := make(chan result, 1)
	go func() { answered <- n.submit(command) }()
	return answered
}

// recovered submits a command until a source that had failed takes it.
func (n *node) recovered(command posting.Command) (r result) {
	n.Helper()
	n.eventually("the source takes writes again", func() bool {
		r = n.submit(command)
		return r.code() != ledger.SourceUnavailable
	})
	return r
}

func (n *node) succeed(operation ledger.Operation) result {
	n.Helper()
	r := n.submit(fresh(operation))
	if !r.ok() {
		n.Fatalf("%T: %v, answer %d %s", operation, r.err, r.Answer.Status, r.Answer.Body)
	}
	return r
}
