package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"lockstep/locks"
)

const (
	victims      = 200 // accounts of the stopped node's batches: those below this index, which the others leave alone
	victimConns  = 64
	probeConns   = 8 // customers of the stopped batch's accounts who ask the other node
	atOnce       = 2 * time.Second
	settledAfter = 6 * time.Second
	freeMax      = 6 * time.Second        // beyond the lock TTL
	catchMax     = 8 * time.Second        // to stop a node inside a batch
	catchPause   = 300 * time.Millisecond // before each try
	readyMax     = time.Minute
)

// lockTTL is how long a stopped node's Redis locks live.
func lockTTL() time.Duration { return locks.Default().TTL }

// nodeStopped stops a node inside a batch, while customers go on at the other one, and holds what these get against the
// same load at that node alone. The first time the node goes on after twice the lock TTL, the second time it never does.
func nodeStopped(ctx context.Context, e *env) error {
	s, err := e.open(ctx, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.stopped(ctx, "continued", false, s.Continue); err != nil {
		return fmt.Errorf("continued: %w", err)
	}
	kill := func(node string) error { return s.Kill(node, false) }
	if err := s.stopped(ctx, "never continued", true, kill); err != nil {
		return fmt.Errorf("never continued: %w", err)
	}
	return nil
}

// stopped measures one stop. The node's end comes after twice the lock TTL, or, with late set, after the load.
func (s *stage) stopped(ctx context.Context, name string, late bool, end func(string) error) error {
	if err := errors.Join(s.settle(ctx), s.bank.renew(ctx)); err != nil {
		return err
	}
	calm, pause := max(s.duration, calmMin), 2*lockTTL()
	if late {
		pause += s.duration
	}
	var judge judge
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running := s.bank.only(1).begin(ctx, load{
		name: name, conns: crowdConns / 2, duration: calm + catchMax + settledAfter + s.duration, request: others, accept: judge.accept,
	})
	sleep(ctx, calm)
	healthy := time.Since(began)
	stuck, err := s.catch(ctx)
	if err != nil {
		cancel()
		<-running
		return err
	}
	at := time.Since(began)
	s.say("%s: stopped with %d accounts in hand", name, len(stuck))
	freed := s.await(ctx, stuck)
	sleep(ctx, pause)
	ended := end(s.nodeName(0))
	done, free := <-running, <-freed
	if err := errors.Join(ended, done.err); err != nil {
		return err
	}
	r := done.result
	s.bystanders(name, r.between(calm/4, healthy), r.between(at, at+atOnce), r.between(at+settledAfter, at+settledAfter+s.duration))
	judge.tell(s.env, "at the other node, "+name)
	s.figure("the stopped batch's accounts are free, "+name, free.Seconds(), "s", atMost((lockTTL() + freeMax).Seconds()))
	return errors.Join(s.awaitReady(ctx), s.settle(ctx), s.verify(ctx))
}

// bystanders tells what customers of other accounts got at the other node.
func (s *stage) bystanders(name string, healthy, soon, later result) {
	healthy.name, soon.name, later.name = "other accounts before", "other accounts at once, "+name, "other accounts later, "+name
	for _, r := range []result{healthy, soon, later} {
		s.record(r.load())
	}
	s.figure("other accounts in the first 2 s / before, "+name, soon.perSecond()/healthy.perSecond(), "", atLeast(0.5))
	s.figure("other accounts after 6 s / before, "+name, later.perSecond()/healthy.perSecond(), "", atLeast(0.8))
}

// others moves money between accounts that the stopped node has nothing to do with.
func others(b *bank, random *rand.Rand, buffer []byte) ([]byte, int) {
	from, to := pair(random, len(b.numbers)-victims)
	return b.appendTransfer(buffer, victims+from, victims+to), statusCreated
}

// only is the same bank, reached at one node.
func (b *bank) only(node int) *bank {
	return &bank{
		nodes: b.nodes[node : node+1], people: b.people, numbers: b.numbers,
		life: b.life + "-" + strconv.Itoa(int(b.keys.Add(1))), heads: b.heads, signed: b.signed,
	}
}

// catch stops the first node, under a load of its own, at a moment at which it holds rows, and tells their accounts. It
// lets the node go on and tries again until it has met such a moment.
func (s *stage) catch(ctx context.Context) (stuck []int, err error) {
	ctx, cancel := context.WithTimeout(ctx, catchMax)
	defer cancel()
	lost := func(answer) error { return nil } // the node is stopped: its customers hear nothing
	s.bank.only(0).begin(ctx, load{           // its last requests end by their timeout
		name: "victims", conns: victimConns, duration: catchMax, request: among(victims), accept: lost,
	})
	for ctx.Err() == nil {
		sleep(ctx, catchPause)
		if err := s.Stop(s.nodeName(0)); err != nil {
			return nil, err
		}
		if stuck, err = s.locked(ctx); err != nil || len(stuck) > 0 {
			return stuck, err
		}
		if err := s.Continue(s.nodeName(0)); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the node was never stopped inside a batch")
}

// locked lists those of the victims' accounts whose rows somebody holds.
func (s *stage) locked(ctx context.Context) (stuck []int, err error) {
	tx, err := s.source.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("look for locked rows: %w", err)
	}
	defer tx.Rollback()
	byID := map[string]int{}
	for i, number := range s.bank.numbers[:victims] {
		byID[serial(number)] = i
	}
	ids := slices.Collect(maps.Keys(byID))
	rows, err := tx.QueryContext(ctx, "SELECT LPAD(id, 12, '0') FROM lockstep.accounts WHERE id IN ("+strings.Join(ids, ",")+") FOR UPDATE SKIP LOCKED")
	if err != nil {
		return nil, fmt.Errorf("look for locked rows: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("look for locked rows: %w", err)
		}
		delete(byID, id)
	}
	return slices.Collect(maps.Values(byID)), rows.Err()
}

// serial is the twelve digits of an account's number that are its id.
func serial(number string) string {
	const digits, check = 12, 2
	return number[len(number)-digits-check : len(number)-check]
}

// await tells how long it takes until payments from the accounts are made at the other node.
func (s *stage) await(ctx context.Context, stuck []int) <-chan time.Duration {
	freed, began := make(chan time.Duration, 1), time.Now()
	ctx, cancel := context.WithTimeout(ctx, readyMax)
	var wg sync.WaitGroup
	bank := s.bank.only(1)
	for i := range min(probeConns, len(stuck)) {
		wg.Go(func() {
			w := newWire(bank.nodes[0])
			defer w.close()
			for ctx.Err() == nil {
				status, _, err := w.call(bank.appendTransfer(nil, stuck[i], victims+i))
				if err == nil && status == statusCreated {
					return
				}
				sleep(ctx, readinessPause)
			}
		})
	}
	go func() { wg.Wait(); freed <- time.Since(began); cancel() }()
	return freed
}

// awaitReady waits until all nodes take requests.
func (s *stage) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyMax)
	defer cancel()
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	for _, node := range s.system.Nodes {
		for !ready(ctx, client, node) {
			if ctx.Err() != nil {
				return fmt.Errorf("node %s is not ready again: %w", node, ctx.Err())
			}
			sleep(ctx, readinessPause)
		}
	}
	return nil
}
