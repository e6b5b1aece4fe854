package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/local"
)

const (
	currency     = "KRW" // has no decimals, so amounts are minor units
	opening      = 1000  // of each account: small, so that payments are refused
	amountMax    = 400
	pairCount    = 3  // per system; money of a pair stays in it
	travelCount  = 4  // accounts per system that pay across
	pairClients  = 4  // per pair: with more of them the search for an order takes too long
	travellers   = 24 // clients per system that pay between its travelling accounts and across
	surveyPause  = 150 * time.Millisecond
	backoffMin   = 20 * time.Millisecond
	backoffMax   = 400 * time.Millisecond
	tokenAge     = 5 * time.Minute
	outsideQuota = 3 // of ten operations that pay across
)

// branch is one system's part of the bank.
type branch struct {
	*wire
	pairs  [][2]string // accounts whose money stays in the pair, so that a pair's total is known at every moment
	travel []string    // accounts that pay to and from the other system
}

// bank is the workload: few hot accounts with little money, as in Jepsen's.
type bank struct {
	*recorder
	branches []*branch
	running  context.Context // ends when clients are to begin nothing new
	patient  context.Context // ends when nobody waits for a definite answer any longer
}

// openBank opens and fills the accounts.
func openBank(ctx context.Context, systems []local.SystemCredentials) (*bank, error) {
	b := &bank{recorder: &recorder{}}
	for _, system := range systems {
		at := &branch{wire: newWire(system)}
		b.branches = append(b.branches, at)
		if err := at.signIn(ctx); err != nil {
			return b, err
		}
		for i := range 2*pairCount + travelCount {
			number, err := at.open(ctx)
			switch {
			case err != nil:
				return b, err
			case i >= 2*pairCount:
				at.travel = append(at.travel, number)
			case i%2 == 0:
				at.pairs = append(at.pairs, [2]string{number})
			default:
				at.pairs[i/2][1] = number
			}
		}
	}
	return b, nil
}

func (at *branch) open(ctx context.Context) (string, error) {
	opened := at.insist(ctx, "/v1/accounts", object{"currency": currency})
	var account struct{ Number string }
	if opened.status != http.StatusCreated || json.Unmarshal(opened.body, &account) != nil {
		return "", fmt.Errorf("open an account at %s: %v", at.system.ID, opened)
	}
	filled := at.insist(ctx, "/v1/deposits", object{"account": account.Number, "amount": strconv.Itoa(opening), "currency": currency})
	if filled.status != http.StatusCreated {
		return "", fmt.Errorf("fill an account at %s: %v", at.system.ID, filled)
	}
	return account.Number, nil
}

const openMax = time.Minute // for one account, on a machine that has much else to do

// insist repeats a change under its key until it is done.
func (at *branch) insist(ctx context.Context, path string, body object) answer {
	ctx, cancel := context.WithTimeout(ctx, openMax)
	defer cancel()
	key := uuid.NewString()
	for {
		got := at.call(ctx, ask{base: at.system.BaseURL, path: path, key: key, body: body})
		if got.status == http.StatusCreated || !sleep(ctx, backoffMax) {
			return got
		}
	}
}

type object map[string]any

func (b *bank) close() {
	for _, at := range b.branches {
		at.close()
	}
}

// run keeps all clients busy until running ends, and returns when each has a definite answer or patient has ended.
func (b *bank) run(running, patient context.Context, seed uint64) {
	b.running, b.patient = running, patient
	var clients sync.WaitGroup
	number := 0
	begin := func(c client, work func(*client)) {
		c.bank, c.number, c.random = b, number, rand.New(rand.NewPCG(seed, uint64(number)))
		clients.Go(func() { work(&c) })
		number++
	}
	for i, at := range b.branches {
		other := b.branches[(i+1)%len(b.branches)]
		for pair := range at.pairs {
			for range pairClients {
				begin(client{at: at, other: other, pair: at.pairs[pair]}, (*client).work)
			}
		}
		for range travellers {
			begin(client{at: at, other: other}, (*client).travel)
		}
		begin(client{at: at}, (*client).survey)
		clients.Go(func() { at.renew(running) })
	}
	clients.Wait()
}

// renew gets a new token before the old one ends.
func (at *branch) renew(ctx context.Context) {
	for pause := tokenAge; sleep(ctx, pause); {
		pause = tokenAge
		if at.signIn(ctx) != nil {
			pause = time.Second // a token lives longer than the pause
		}
	}
}

// sleep tells whether the pause came to its end before the context did.
func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// client does one operation after the other, on a pair of accounts of its own system and across.
type client struct {
	*bank
	at, other *branch
	pair      [2]string
	number    int
	random    *rand.Rand
	held      *Op // the hold that it has to end
}

func (c *client) work() {
	for c.running.Err() == nil {
		c.step()
	}
	if c.held != nil {
		c.settle()
	}
}

func (c *client) step() {
	from := c.random.IntN(2)
	op := Op{From: c.pair[from], To: c.pair[1-from], Amount: 1 + c.random.Int64N(amountMax)}
	switch dice := c.random.IntN(10); {
	case dice < outsideQuota:
		op.Kind, op.From, op.To = Remit, pick(c.random, c.at.travel), pick(c.random, c.other.travel)
		c.change(op, "/v1/transfers", transferBody)
	case dice == 9:
		c.read(op.From)
	case dice == 8 && c.held != nil:
		c.settle()
	case dice == 8:
		op.Kind = Hold
		done := c.change(op, "/v1/holds", func(op Op) object {
			return object{"account": op.From, "to": op.To, "amount": strconv.FormatInt(op.Amount, 10), "currency": currency}
		})
		if done.End == Applied {
			c.held = &done
		}
	default:
		op.Kind = Transfer
		c.change(op, "/v1/transfers", transferBody)
	}
}

// travel pays between the accounts that pay across, inside its system as well.
func (c *client) travel() {
	for c.running.Err() == nil {
		op := Op{Kind: Remit, From: pick(c.random, c.at.travel), To: pick(c.random, c.other.travel), Amount: 1 + c.random.Int64N(amountMax)}
		if c.random.IntN(10) >= outsideQuota {
			if op.Kind, op.To = Transfer, pick(c.random, c.at.travel); op.To == op.From {
				continue
			}
		}
		c.change(op, "/v1/transfers", transferBody)
	}
}

func pick(random *rand.Rand, from []string) string { return from[random.IntN(len(from))] }

func transferBody(op Op) object {
	return object{
		"from": op.From, "to": op.To, "amount": strconv.FormatInt(op.Amount, 10), "currency": currency, "reference": op.Reference,
	}
}

// settle captures or voids the client's hold.
func (c *client) settle() {
	op := Op{Kind: Void, From: c.held.From, To: c.held.To, Amount: c.held.Amount, Hold: c.held.Hold}
	verb := "/void"
	if c.random.IntN(2) == 0 {
		op.Kind, verb = Capture, "/capture"
	}
	if done := c.change(op, "/v1/holds/"+op.Hold+verb, func(Op) object { return object{} }); done.End == Applied {
		c.held = nil
	}
}

// change asks under one key until the end is definite, and records it.
func (c *client) change(op Op, path string, body func(Op) object) Op {
	op.Client, op.System, op.Reference, op.Call = c.number, c.at.system.ID, uuid.NewString(), c.now()
	vague := false // an earlier answer left it open
	for pause := backoffMin; op.End == ""; pause = min(2*pause, backoffMax) {
		got := c.try(&op, ask{path: path, key: op.Reference, body: body(op)})
		op.End = got.end(vague, c.random.IntN(2) == 0)
		if op.End == Applied {
			op.learn(got)
		}
		vague = vague || got.problem.Outcome != "not_applied"
		if op.End == "" && !sleep(c.patient, pause/2+time.Duration(c.random.Int64N(int64(pause)))) {
			op.End = Open
		}
	}
	op.Return = c.now()
	c.add(op)
	return op
}

// end reads an answer. A refusal is definite when it was decided under the key; one that came earlier speaks of its own
// request alone, and then a client without an open question may leave it at that.
func (a answer) end(vague, leave bool) End {
	switch decided := a.status == http.StatusUnprocessableEntity || a.Retry == "new-key"; {
	case a.status == http.StatusCreated || a.status == http.StatusOK:
		return Applied
	case a.Outcome == "not_applied" && decided:
		return Refused
	case a.Outcome == "not_applied" && !vague && leave:
		return NotApplied
	}
	return ""
}

// learn takes the id of what was made.
func (op *Op) learn(got answer) {
	var made struct{ ID string }
	_ = json.Unmarshal(got.body, &made) // without an id the auditor misses it in the books
	switch op.Kind {
	case Hold:
		op.Hold = made.ID
	case Transfer, Remit:
		op.ID = made.ID
	}
}

// try sends one request to the balancer or to a node, and writes it down.
func (c *client) try(op *Op, a ask) answer {
	bases := c.at.bases()
	a.base = bases[0]
	if c.random.IntN(2) == 0 {
		a.base = bases[c.random.IntN(len(bases))]
	}
	began := c.now()
	got := c.at.call(c.patient, a)
	t := Try{At: began, Took: c.now() - began, To: a.base, Status: got.status, Code: got.Code}
	if got.err != nil {
		t.Error = got.err.Error()
	}
	if got.status == http.StatusUnauthorized {
		_ = c.at.signIn(c.patient) // the next try tells
	}
	op.Tries = append(op.Tries, t)
	return got
}

// shown is an account as the API shows it.
type shown struct {
	Number  string
	Balance struct {
		Posted string `json:"posted"`
		Held   string `json:"pending_debit"`
	}
}

func (s shown) balance() (b Balance, err error) {
	if b.Posted, err = strconv.ParseInt(s.Balance.Posted, 10, 64); err != nil {
		return b, err
	}
	b.Held, err = strconv.ParseInt(s.Balance.Held, 10, 64)
	return b, err
}

// read asks the source for one account.
func (c *client) read(number string) {
	op := Op{Kind: Read, From: number, Strong: true}
	c.look(op, "/v1/accounts/"+number, func(body []byte) ([]shown, error) {
		var one shown
		err := json.Unmarshal(body, &one)
		return []shown{one}, err
	})
}

// survey reads all balances again and again, at the source and at replicas in turn.
func (c *client) survey() {
	for round := 0; sleep(c.running, surveyPause); round++ {
		c.look(Op{Kind: Survey, Strong: round%2 == 0}, "/v1/accounts?limit=200", func(body []byte) ([]shown, error) {
			var page struct{ Accounts []shown }
			err := json.Unmarshal(body, &page)
			return page.Accounts, err
		})
	}
}

// look records what a read showed. One without an answer says nothing.
func (c *client) look(op Op, path string, decode func([]byte) ([]shown, error)) {
	op.Client, op.System, op.Call, op.End = c.number, c.at.system.ID, c.now(), Open
	got := c.try(&op, ask{path: path, strong: op.Strong})
	op.Return = c.now()
	if got.status == http.StatusOK {
		accounts, err := decode(got.body)
		op.End, op.Balances = Applied, make(map[string]Balance, len(accounts))
		for _, account := range accounts {
			var b Balance
			if b, err = account.balance(); err != nil {
				break
			}
			op.Balances[account.Number] = b
		}
		if err != nil || op.Strong && !got.source {
			op.Tries[0].Error = fmt.Sprintf("unfit answer from source (%t): %v: %.200s", got.source, err, got.body)
		}
	}
	c.add(op)
}
