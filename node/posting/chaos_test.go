package posting_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
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
// learned by asking again. The storm lasts until COMMITs were lost and callers have heard each kind of answer.
func TestEveryAnswerIsTrueWhateverIsLost(t *testing.T) {
	t.Parallel()
	const callers, lostMin = 32, 5
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
	storm, calm := context.WithCancel(context.Background())
	histories := make([][]history, callers)
	var made, unknown atomic.Int64
	var all sync.WaitGroup
	t.Cleanup(func() { calm(); all.Wait() }) // before the nodes close, also when the wait below fails
	for c := range callers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(c)))
			for storm.Err() == nil {
				h := ask(nodes, account, random)
				histories[c] = append(histories[c], h)
				if h.said("") {
					made.Add(1)
				}
				if h.said(ledger.OutcomeUnknown) {
					unknown.Add(1)
				}
			}
		})
	}
	all.Go(func() { lose(storm, proxies, rand.New(rand.NewPCG(seed, callers))) })
	w.eventually("COMMITs are lost, and callers hear successes and unknown outcomes", func() bool {
		return lostCommits(nodes) >= lostMin && made.Load() > 0 && unknown.Load() > 0
	})
	calm()
	all.Wait()
	for _, p := range proxies {
		p.nextCommit(arrives, 0)
	}
	judge(w, nodes, account, slices.Concat(histories...))
	t.Logf("%v COMMITs were lost", lostCommits(nodes))
	w.verify()
}

// lostCommits is how many COMMITs had no answer.
func lostCommits(nodes []*node) (sum float64) {
	for _, n := range nodes {
		sum += n.metric("unknown_commits_total")
	}
	return sum
}

// lose takes away what a network takes away, until the storm ends.
func lose(storm context.Context, proxies []*proxy, random *rand.Rand) {
	ticker := time.NewTicker(15 * time.Millisecond)
	defer ticker.Stop()
	for ; storm.Err() == nil; <-ticker.C {
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
	limit := func() time.Duration { return time.Duration(20+random.IntN(400)) * time.Millisecond }
	h.heard = make([]ledger.Code, len(nodes))
	var both sync.WaitGroup
	for i, n := range nodes {
		mine := limit()
		both.Go(func() { h.heard[i] = command(n, mine) })
	}
	both.Wait()
	if random.IntN(2) == 0 {
		h.heard = append(h.heard, command(nodes[random.IntN(len(nodes))], limit()))
	}
	return h
}

// judge holds the answers against the journal, then asks again for what is unknown.
func judge(w *world, nodes []*node, account ledger.Number, histories []history) {
	w.Helper()
	heard := map[ledger.Code]int{}
	applied := int64(0)
	for i, h := range histories {
		for _, code := range h.heard {
			heard[code]++
		}
		if h.said(ledger.OutcomeUnknown, ledger.RequestInProgress) && !h.said("") {
			operation := deposit(account, 1)
			operation.Reference = h.key
			if r := nodes[i%2].recovered(asked(operation, h.key)); !r.ok() { // its lane may shun the source for a moment yet
				w.Errorf("the repeat of an unknown outcome: %v", r.err)
			}
			h.heard = append(h.heard, "")
		}
		rows := w.number("SELECT COUNT(*) FROM transfers WHERE reference = ?", h.key)
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
}
