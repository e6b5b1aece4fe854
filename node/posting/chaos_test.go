package posting_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"lockstep/cluster/local/servers"
	"lockstep/node/ledger"
)

// history is all that the callers of one key have heard.
type history struct {
	key   string
	heard []ledger.Code // "" is a success
}

// said tells whether any of the codes was heard.
func (h history) said(codes ...ledger.Code) bool {
	return slices.ContainsFunc(h.heard, func(code ledger.Code) bool { return slices.Contains(codes, code) })
}

// While COMMITs, their answers and whole connections are lost at random, over two nodes, with impatient callers and each
// key asked on both: what was acknowledged is there once, what was refused for good is not, and what was unknown is
// learned by asking again.
func TestEveryAnswerIsTrueWhateverIsLost(t *testing.T) {
	t.Parallel()
	const callers, length = 32, 2 * time.Second
	w := newWorld(t)
	prefix := newPrefix()
	var proxies []*proxy
	var nodes []*node
	for range 2 {
		p := w.proxy(servers.Shared(t).SourceAddr, nil)
		proxies = append(proxies, p)
		nodes = append(nodes, w.open(p.through, withLocker(w.locker(prefix))))
	}
	account := nodes[0].funded(1)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	deadline := time.Now().Add(length)
	histories := make([][]history, callers)
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(c)))
			for time.Now().Before(deadline) {
				histories[c] = append(histories[c], ask(nodes, account, random))
			}
		})
	}
	all.Go(func() { lose(proxies, rand.New(rand.NewPCG(seed, callers)), deadline) })
	all.Wait()
	for _, p := range proxies {
		p.nextCommit(arrives, 0)
	}
	judge(w, nodes, account, slices.Concat(histories...))
	if lost := nodes[0].metric("unknown_commits_total") + nodes[1].metric("unknown_commits_total"); lost == 0 {
		t.Error("no COMMIT was lost")
	}
	w.verify()
}

// lose takes away what a network takes away, until the deadline.
func lose(proxies []*proxy, random *rand.Rand, deadline time.Time) {
	for ticker := time.NewTicker(15 * time.Millisecond); time.Now().Before(deadline); <-ticker.C {
		p := proxies[random.IntN(len(proxies))]
		if what := fate(random.IntN(6)); what <= comesLate {
			p.nextCommit(what, time.Duration(random.IntN(300))*time.Millisecond)
		} else if what == comesLate+1 {
			p.cut(false)
		}
	}
}

// ask asks for one deposit, on both nodes at once and then perhaps again, with little patience.
func ask(nodes []*node, account ledger.Number, random *rand.Rand) history {
	h := history{key: newID()}
	command := func(n *node, limit time.Duration) ledger.Code {
		operation := deposit(account, 1)
		operation.Reference = h.key
		return n.within(limit, asked(operation, h.key)).code()
	}
	patience := func() time.Duration { return time.Duration(20+random.IntN(400)) * time.Millisecond }
	h.heard = make([]ledger.Code, len(nodes))
	var both sync.WaitGroup
	for i, n := range nodes {
		limit := patience()
		both.Go(func() { h.heard[i] = command(n, limit) })
	}
	both.Wait()
	if random.IntN(2) == 0 {
		h.heard = append(h.heard, command(nodes[random.IntN(2)], patience()))
	}
	return h
}

// judge holds the answers against the journal, then asks again for what is unknown.
func judge(w *world, nodes []*node, account ledger.Number, histories []history) {
	w.Helper()
	count := func(key string) int64 {
		return w.number("SELECT COUNT(*) FROM transfers WHERE reference = ?", key)
	}
	heard := map[ledger.Code]int{}
	applied := int64(0)
	for i, h := range histories {
		for _, code := range h.heard {
			heard[code]++
		}
		if h.said(ledger.OutcomeUnknown, ledger.RequestInProgress) && !h.said("") {
			operation := deposit(account, 1)
			operation.Reference = h.key
			if r := nodes[i%2].submit(asked(operation, h.key)); !r.ok() {
				w.Errorf("the repeat of an unknown outcome: %v", r.err)
			}
			h.heard = append(h.heard, "")
		}
		rows := count(h.key)
		applied += rows
		if h.said("") && rows != 1 {
			w.Errorf("an acknowledged deposit is in the journal %d times: %v", rows, h.heard)
		}
		if !h.said("") && rows != 0 {
			w.Errorf("a deposit of which all answers say that it was not applied is in the journal: %v", h.heard)
		}
	}
	w.Logf("%d keys heard %v", len(histories), heard)
	if balance := w.posted(account); balance != 1+applied {
		w.Errorf("the balance is %d, the journal says %d", balance, 1+applied)
	}
	if heard[""] == 0 || heard[ledger.OutcomeUnknown] == 0 {
		w.Error("nothing was acknowledged, or nothing was unknown")
	}
}
