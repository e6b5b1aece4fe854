package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/cluster/local"
)

const lockServers = 3

// lockFault is something that happens to lock servers, and what the nodes must have seen of it before it ends.
type lockFault struct {
	name  string
	begin func(f *faulty)
	again func(f *faulty) // repeated for as long as the fault lasts; may be nil
	end   func(f *faulty)
	seen  func(before, now lockFigures) bool // by one node
	says  string                             // by readyz's body, once
}

func lockFaults() []lockFault {
	all := func(do func(f *faulty, server string)) func(*faulty) {
		return func(f *faulty) {
			for n := range lockServers {
				do(f, fmt.Sprintf("alpha-redis-%d", n+1))
			}
		}
	}
	degraded := func(before, now lockFigures) bool {
		return now.degraded && now.degradedBatches > before.degradedBatches
	}
	last := fmt.Sprintf("alpha-redis-%d", lockServers)
	return []lockFault{
		{
			name: "all killed", begin: all((*faulty).down), end: all((*faulty).start), seen: degraded,
			says: "degraded: 0 of 3 servers",
		}, {
			name: "all stopped", begin: all((*faulty).stop), end: all((*faulty).cont), seen: degraded,
			says: "degraded: 0 of 3 servers",
		}, {
			name: "flushed again and again", begin: all((*faulty).flush), again: all((*faulty).flush), end: func(*faulty) {},
			seen: func(before, now lockFigures) bool { return now.lost > before.lost },
		}, {
			name: "one stopped", begin: func(f *faulty) { f.stop(last) }, end: func(f *faulty) { f.cont(last) },
			seen: func(before, now lockFigures) bool {
				return !now.degraded && now.serversUp == lockServers-1 && now.names > before.names
			},
			says: `"status":"down"`,
		},
	}
}

// Redis decides only who tries. With all lock servers killed, frozen or forgetful, or one of them frozen, both nodes go on
// paying: nobody hears anything but a success or a refusal, readyz stays green and says what is missing, the metrics tell
// servers that are gone from locks that were lost, and all is as before once the servers are back.
func TestPaymentsGoOnWhateverRedisDoes(t *testing.T) {
	t.Parallel()
	f := newFaulty(t)
	stop := f.load(16)
	defer stop()
	for _, fault := range lockFaults() {
		f.normal("before " + fault.name)
		f.suffer(fault)
	}
	f.normal("after all")
	stop()
	if f.asked.Load() < 60 {
		t.Errorf("readyz was asked only %d times", f.asked.Load())
	}
	f.books.audit(f.c)
	f.s.verify(t)
}

// faulty is a cluster under load whose lock servers fail.
type faulty struct {
	testing.TB
	s     *site
	c     caller
	books *record
	told  tally
	asked atomic.Int64 // answers of readyz
}

func newFaulty(t *testing.T) *faulty {
	f := &faulty{TB: t, books: newRecord("KRW")}
	f.s = own(t, func(o *local.Options) { o.Replicas = 0 })
	f.c = f.s.as(t, f.s.operator).inHaste()
	return f
}

// load keeps clients paying at each node and others asking every address whether it is ready, until stop is called, which may be done twice.
func (f *faulty) load(clients int) (stop func()) {
	const accounts = 12
	var numbers []string
	for range accounts {
		numbers = append(numbers, f.books.open(f.c, "1000000"))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			node := i % 2
			for round := i; ctx.Err() == nil; round++ {
				from, to := pair(i/2, round, accounts)
				got := f.books.transfer(f.c.at(f.s.nodes[node]), numbers[from], numbers[to], "3", "Prefer", "wait=30")
				if !f.told.count(f, node, got) {
					return
				}
			}
		})
	}
	for _, base := range f.s.bases() {
		wg.Go(func() {
			for ctx.Err() == nil {
				if got := f.c.at(base).get("/readyz"); got.status != http.StatusOK {
					f.Errorf("readyz of %s: %v", base, got)
				}
				f.asked.Add(1)
				time.Sleep(30 * time.Millisecond)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// suffer lets a fault last until both nodes have seen it and made payments under it.
func (f *faulty) suffer(fault lockFault) {
	f.Helper()
	const least = 100 // payments of each node
	before := f.figures()
	fault.begin(f)
	began := time.Now()
	paid := [2]int64{f.told.succeeded[0].Load(), f.told.succeeded[1].Load()}
	eventually(f, fault.name+": both nodes have seen it and go on", func() bool {
		if fault.again != nil {
			fault.again(f)
		}
		now := f.figures()
		for node := range now {
			if !fault.seen(before[node], now[node]) || f.told.succeeded[node].Load() < paid[node]+least {
				return false
			}
			if said := string(f.c.at(f.s.nodes[node]).get("/readyz").body); !strings.Contains(said, fault.says) {
				return false
			}
		}
		return true
	})
	now := f.figures()
	f.Logf("%s for %v: %d + %d payments; nodes saw %+v", fault.name, time.Since(began).Round(time.Millisecond),
		f.told.succeeded[0].Load()-paid[0], f.told.succeeded[1].Load()-paid[1], now)
	fault.end(f)
}

// normal waits until both nodes have made payments for a while with locks, and none without.
func (f *faulty) normal(when string) {
	f.Helper()
	const least = 30 // payments of each node
	begin := f.figures()
	paid := [2]int64{f.told.succeeded[0].Load(), f.told.succeeded[1].Load()}
	eventually(f, when+": both nodes lock their payments", func() bool {
		now := f.figures()
		for node := range now {
			if now[node].degraded || now[node].serversUp != lockServers || now[node].degradedBatches > begin[node].degradedBatches {
				begin, paid = now, [2]int64{f.told.succeeded[0].Load(), f.told.succeeded[1].Load()} // from here on
				return false
			}
			if f.told.succeeded[node].Load() < paid[node]+least || now[node].names <= begin[node].names {
				return false
			}
		}
		return true
	})
}

// lockFigures is what a node's metrics say about its locks.
type lockFigures struct {
	degraded        bool
	serversUp       int64
	degradedBatches int64 // run without locks
	lost            int64 // locks that were gone at their release
	names           int64 // that a quorum has judged
}

func (f *faulty) figures() (all [2]lockFigures) {
	f.Helper()
	for node, admin := range f.s.cluster.Credentials().Systems[0].AdminURLs {
		of := f.c.at(admin).metrics()
		all[node] = lockFigures{
			degraded: of["lockstep_locks_degraded"] != 0, serversUp: of["lockstep_locks_server_up"],
			degradedBatches: of["lockstep_posting_degraded_batches_total"],
			lost:            of["lockstep_posting_locks_lost_total"], names: of["lockstep_locks_names_total"],
		}
	}
	return all
}

func (f *faulty) must(server string, err error) {
	f.Helper()
	if err != nil {
		f.Fatalf("%s: %v", server, err)
	}
}

func (f *faulty) down(server string) { f.Helper(); f.must(server, f.s.cluster.Kill(server, true)) }
func (f *faulty) stop(server string) { f.Helper(); f.must(server, f.s.cluster.Stop(server)) }
func (f *faulty) cont(server string) { f.Helper(); f.must(server, f.s.cluster.Continue(server)) }

func (f *faulty) start(server string) {
	f.Helper()
	f.must(server, f.s.cluster.StartProcess(context.Background(), server))
}

func (f *faulty) flush(server string) {
	f.Helper()
	f.must(server, f.s.cluster.Flush(context.Background(), server))
}
