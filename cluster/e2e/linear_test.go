package e2e_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"lockstep/cluster/local"
)

// side is an account of a pair, or the outside.
type side int

// The places that money comes from and goes to.
const (
	left side = iota
	right
	outside
)

// step is what a client asks of a pair of accounts: to pay, or to read one of them.
type step struct {
	pair     int
	from, to side
	amount   int64
	read     bool // of the account in from
}

// end is what became of a step, as far as its client knows.
type end int

// The ends of a step.
const (
	applied end = iota
	refused     // for lack of funds
	loose       // it may have happened, and may happen yet
)

// finding is what a client was told.
type finding struct {
	end    end
	posted int64 // of a read
}

// funds is the state of a pair: what the left and the right account have.
type funds [2]int64

const openingFunds = 1000

// pairs is the sequential specification: money moves at one moment and at once, a read shows what was there at one moment,
// and a payment is refused only when the payer had less. Each pair of accounts is a partition of its own.
func pairs() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			parts := map[int][]porcupine.Operation{}
			for _, operation := range history {
				pair := operation.Input.(step).pair
				parts[pair] = append(parts[pair], operation)
			}
			var all [][]porcupine.Operation
			for _, part := range parts {
				all = append(all, part)
			}
			return all
		},
		Init: func() any { return funds{openingFunds, openingFunds} },
		Step: func(state, input, output any) (bool, any) {
			return input.(step).take(state.(funds), output.(finding))
		},
	}
}

// take tells whether a step can have had this end in a state, and what the state is then.
func (s step) take(state funds, told finding) (bool, funds) {
	if s.read {
		return state[s.from] == told.posted, state
	}
	enough := s.from == outside || state[s.from] >= s.amount
	after := state
	if s.from != outside {
		after[s.from] -= s.amount
	}
	if s.to != outside {
		after[s.to] += s.amount
	}
	switch {
	case told.end == applied:
		return enough, after
	case told.end == refused || !enough:
		return !enough, state
	}
	return true, after // a step that never happened stands at the end, where nobody sees it
}

// history is what clients did and were told.
type history struct {
	site    *site
	began   time.Time
	numbers [][2]string // of the pairs' accounts

	mu         sync.Mutex
	operations []porcupine.Operation
	left       []int // steps left open, by pair
	perSide    map[string]int
	served     map[string]int
	vague      atomic.Int64 // answers that were unknown, or missing
}

const (
	openMax  = 3  // steps left open of a pair: each makes the search longer
	stepsMin = 60 // of each account, and answered by each address

	stepsBetween = 100 // of all clients, from one kill to the next
)

func (h *history) now() int64 { return int64(time.Since(h.began)) }

// note adds a step with its end.
func (h *history) note(client int, s step, call int64, told finding) {
	back := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if told.end == loose {
		back = math.MaxInt64
		h.left[s.pair]++
	}
	for _, account := range []side{s.from, s.to} {
		if account != outside {
			h.perSide[h.numbers[s.pair][account]]++
		}
	}
	h.operations = append(h.operations, porcupine.Operation{ClientId: client, Input: s, Call: call, Output: told, Return: back})
}

func (h *history) steps() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.operations)
}

func (h *history) mayLeave(pair int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.left[pair] < openMax
}

func (h *history) answered(base string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.served[base]++
}

// enough tells whether the history has what the test is about.
func (h *history) enough() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, base := range h.site.bases() {
		if h.served[base] < stepsMin {
			return false
		}
	}
	for _, pair := range h.numbers {
		if min(h.perSide[pair[left]], h.perSide[pair[right]]) < stepsMin {
			return false
		}
	}
	return h.vague.Load() > 0 && slices.Max(h.left) > 0
}

// client does steps on one pair until told to stop, each at an address of its own. One that is careless asks once; the
// others repeat what has no definite end under the same key, elsewhere, and so learn it.
func (h *history) client(c caller, number, pair int, careless bool, random *rand.Rand, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		s := step{pair: pair, from: side(random.IntN(3)), to: side(random.IntN(3)), amount: 1 + random.Int64N(400)}
		switch {
		case random.IntN(3) == 0 && s.from != outside:
			s.read, s.to = true, outside
			h.read(c, number, s, random)
		case s.from != s.to:
			h.pay(c, number, s, careless, random)
		}
	}
}

// at is an address: the balancer's or a node's.
func (h *history) at(c caller, random *rand.Rand) caller {
	bases := h.site.bases()
	return c.at(bases[random.IntN(len(bases))])
}

// read shows what the source has. A read without an answer says nothing and is left out.
func (h *history) read(c caller, client int, s step, random *rand.Rand) {
	c = h.at(c, random)
	call := h.now()
	got := c.get("/v1/accounts/"+h.numbers[s.pair][s.from], "Cache-Control", "no-cache")
	if got.status != http.StatusOK {
		return
	}
	posted, err := strconv.ParseInt(got.field("balance", "posted"), 10, 64)
	if err != nil || got.header.Get("Read-From") != "source" {
		c.Errorf("a strong read is answered with %v from the %s", got, got.header.Get("Read-From"))
	}
	h.answered(c.base)
	h.note(client, s, call, finding{posted: posted})
}

// pay asks until the end of the payment is definite, or leaves it open.
func (h *history) pay(c caller, client int, s step, careless bool, random *rand.Rand) {
	path, body := h.request(s)
	key, vague, call := uuid.NewString(), false, h.now()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		at := h.at(c, random)
		got := at.call(http.MethodPost, path, body, "Idempotency-Key", key, "Prefer", "wait=2")
		switch {
		case got.status == http.StatusCreated:
			h.answered(at.base)
			h.note(client, s, call, finding{end: applied})
			return
		case got.field("code") == "insufficient_funds":
			h.answered(at.base)
			h.note(client, s, call, finding{end: refused})
			return
		case got.field("outcome") == "not_applied":
			if got.status != http.StatusServiceUnavailable {
				c.Errorf("a payment is answered with %v", got)
				return
			}
			if !vague {
				return // it never happened
			}
		default:
			vague = true
			h.vague.Add(1)
			if careless && h.mayLeave(s.pair) {
				h.note(client, s, call, finding{end: loose})
				return
			}
		}
	}
	c.Errorf("a payment has no definite end within %v", patience)
}

func (h *history) request(s step) (path string, body object) {
	amount := fmt.Sprint(s.amount)
	switch numbers := h.numbers[s.pair]; {
	case s.from == outside:
		return "/v1/deposits", cash(numbers[s.to], amount, "KRW")
	case s.to == outside:
		return "/v1/withdrawals", cash(numbers[s.from], amount, "KRW")
	default:
		return "/v1/transfers", payment(numbers[s.from], numbers[s.to], amount, "KRW")
	}
}

// finish ends each pair's history with a large deposit and a read of it.
func (h *history) finish(c caller) {
	random := rand.New(rand.NewPCG(0, 0))
	for pair := range h.numbers {
		h.pay(c, 0, step{pair: pair, from: outside, to: left, amount: 1_000_000}, false, random)
		h.read(c, 0, step{pair: pair, from: left, to: outside, read: true}, random)
	}
}

// What clients see of single accounts is what one clerk would show who serves one after the other, though two nodes do the
// work and are killed again and again. Reads are of the source; a payment without a definite answer may have happened, or
// happen later, once.
func TestHistoriesOfAccountsAreLinearizable(t *testing.T) {
	const pairCount, clientsEach, killsMin, checkMax = 3, 5, 3, 20 * time.Second
	s := shared(t)
	c := s.as(t, s.operator).inHaste()
	h := &history{site: s, began: time.Now(), left: make([]int, pairCount), perSide: map[string]int{}, served: map[string]int{}}
	for range pairCount {
		h.numbers = append(h.numbers, [2]string{c.account("KRW", fmt.Sprint(openingFunds)), c.account("KRW", fmt.Sprint(openingFunds))})
	}
	seed := rand.Uint64()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range pairCount * clientsEach {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		clients.Go(func() { h.client(c, i, i%pairCount, i < pairCount, random, stop) })
	}
	kills := 0
	for began := time.Now(); kills < killsMin || !h.enough() && time.Since(began) < patience; kills++ {
		s.killNode(t, kills%len(s.nodes), c)
		before := h.steps()
		eventually(t, "clients go on", func() bool { return h.steps() > before+stepsBetween })
	}
	close(stop)
	clients.Wait()
	h.finish(c)
	t.Logf("seed %d: %d steps, %d per account at least, %d kills, %d answers unknown or missing, left open %v, served %v", seed,
		len(h.operations), least(h.perSide), kills, h.vague.Load(), h.left, h.served)
	if !h.enough() {
		t.Error("the history lacks steps, answers of each address, or steps without a known end")
	}
	began := time.Now()
	if result := porcupine.CheckOperationsTimeout(pairs(), h.operations, checkMax); result != porcupine.Ok {
		t.Errorf("the history is not linearizable: %v (after %v)", result, time.Since(began))
	}
	t.Logf("checked in %v", time.Since(began).Round(time.Millisecond))
	h.doctored(t, checkMax)
	s.verify(t)
}

func least(counts map[string]int) int {
	found := math.MaxInt
	for _, count := range counts {
		found = min(found, count)
	}
	return found
}

// doctored shows that the check can fail: a read after the last deposit that does not show it, and a deposit that is
// acknowledged and lost.
func (h *history) doctored(t *testing.T, checkMax time.Duration) {
	t.Helper()
	last := len(h.operations) - 1
	deposit, read := h.operations[last-1], h.operations[last]
	if deposit.Input.(step).amount != 1_000_000 || !read.Input.(step).read {
		t.Fatalf("the history ends with %v and %v", deposit.Input, read.Input)
	}
	part := slices.DeleteFunc(slices.Clone(h.operations), func(operation porcupine.Operation) bool {
		return operation.Input.(step).pair != read.Input.(step).pair
	})
	stale := slices.Clone(part)
	stale[len(stale)-1].Output = finding{posted: read.Output.(finding).posted - 1_000_000}
	lost := slices.Delete(slices.Clone(part), len(part)-2, len(part)-1)
	for name, history := range map[string][]porcupine.Operation{"a stale read": stale, "a lost deposit": lost} {
		if result := porcupine.CheckOperationsTimeout(pairs(), history, checkMax); result != porcupine.Illegal {
			t.Errorf("a history with %s is called %v", name, result)
		}
	}
}

// killNode kills a node under load and waits until it makes payments again.
func (s *site) killNode(t *testing.T, i int, c caller) {
	t.Helper()
	name := fmt.Sprintf("alpha-node-%d", i+1)
	before := s.process(t, name)
	if err := s.cluster.Kill(name, false); err != nil {
		t.Fatalf("kill %s: %v", name, err)
	}
	eventually(t, name+" is back", func() bool {
		now := s.process(t, name)
		return now.State == local.Running && now.Restarts > before.Restarts && s.serves(before.Address, c)
	})
}
