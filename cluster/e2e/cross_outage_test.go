package e2e_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

const brokerName = "nats-1"

// withoutBroker pays both ways while there is no broker. Payers hear their 201 as ever, and each payee's system finds out by
// asking; what there was to tell is told when the broker is back.
func (x *crossing) withoutBroker(t *testing.T) {
	const clients, leastPerNode, late = 16, 10, 15 * time.Second
	numbers := x.population(t)
	x.settled(t, alikeMaxWait)
	if err := x.Kill(brokerName, true); err != nil {
		t.Fatal(err)
	}
	restart := sync.OnceValue(func() error { return x.StartProcess(context.WithoutCancel(t.Context()), brokerName) })
	defer restart() //nolint:errcheck // of a test that has failed already
	asked := x.counted(t, "lockstep_remit_inquiries_total")[""]
	l := x.load(t, x.books, "1", clients, across(numbers))
	stop := l.start(t)
	l.flows(t, leastPerNode, 0, 1, 2, 3)
	stop()
	l.expect(t, leastPerNode, "Accepted", "insufficient_funds")
	if l.first.Load() != l.total() {
		t.Errorf("%d of %d transfers were not done by their first answer", l.total()-l.first.Load(), l.total())
	}
	x.alike(t, askAfter+late)
	asked = x.counted(t, "lockstep_remit_inquiries_total")[""] - asked
	t.Logf("%d transfers without a broker, %d inquiries", l.total(), asked)
	if asked < l.total() {
		t.Errorf("%d transfers were ended by %d inquiries", l.total(), asked)
	}
	if waiting := x.counted(t, "lockstep_outbox_waiting")[""]; waiting == 0 {
		t.Error("nothing waits for the broker")
	}
	if err := restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what waited for the broker is told", func() bool { return x.counted(t, "lockstep_outbox_waiting")[""] == 0 })
}

// killedUnderLoad kills a node, all nodes of a system and the broker, and stops nodes and the broker for a while, one after the
// other and with payments made in between.
func (x *crossing) killedUnderLoad(t *testing.T) {
	const clients, flow = 32, 10
	l, before := x.load(t, x.books, "1", clients, across(x.population(t))), x.restarts()
	stop := l.start(t)
	everybody := []int{0, 1, 2, 3}
	for _, killed := range [][]string{{"alpha-node-1"}, {"beta-node-1", "beta-node-2"}, {brokerName}} {
		l.flows(t, flow, everybody...)
		for _, name := range killed {
			if err := x.Kill(name, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.flows(t, flow, everybody...)
	x.stopped(t, l, []string{"beta-node-2"}, flow, 0, 1)
	for _, others := range formOf(nil, []string{"alpha-node-1", brokerName}) {
		l.flows(t, flow, everybody...)
		x.stopped(t, l, []string{others}, flow, 1)
	}
	if all := formOf[[]string](nil, []string{"beta-node-1", "beta-node-2"}); all != nil {
		l.flows(t, flow, everybody...)
		x.stopped(t, l, all, 0)
	}
	l.flows(t, flow, everybody...)
	stop()
	l.expect(t, formOf[int64](4*flow, 50), "Accepted", "insufficient_funds", "no answer", "request_in_progress", "outcome_unknown", "overloaded", "source_unavailable", "peer_unavailable")
	if l.heard["no answer"] == 0 {
		t.Error("no request lost its answer")
	}
	for _, name := range []string{"alpha-node-1", "beta-node-1", "beta-node-2", brokerName} {
		if times := x.restarts()[name] - before[name]; times != 1 {
			t.Errorf("%s was started again %d times", name, times)
		}
	}
}

// stopped stops processes for a while, in which the nodes make so many more payments.
func (x *crossing) stopped(t *testing.T, l *crossLoad, names []string, flow int64, nodes ...int) {
	t.Helper()
	thaw := sync.OnceValue(func() (err error) {
		for _, name := range names {
			err = errors.Join(err, x.Continue(name))
		}
		return err
	})
	defer thaw() //nolint:errcheck // of a test that has failed already
	for _, name := range names {
		if err := x.Stop(name); err != nil {
			t.Fatal(err)
		}
	}
	began, long := time.Now(), formOf(3*time.Second, 20*time.Second)
	l.flows(t, flow, nodes...)
	eventually(t, "processes were stopped for a while", func() bool { return time.Since(began) > long })
	if err := thaw(); err != nil {
		t.Fatal(err)
	}
}

// restarts tells how often each process was started again.
func (x *crossing) restarts() map[string]int {
	times := map[string]int{}
	for _, process := range x.Processes() {
		times[process.Name] = process.Restarts
	}
	return times
}
