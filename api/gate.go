package api

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/node/ledger"
)

// RequestsMaxDefault is how many changes, and as many reads, a node has in hand at a time unless told otherwise: two
// full batches of the posting engine, the one that it commits and the one that gathers meanwhile. More in hand makes no
// batch larger, and every answer later.
const RequestsMaxDefault = 512

// Those who are refused hear it after a pause, unless too many wait for it already. Clients that come back at once
// without regard to Retry-After would have the node refuse them thousands of times a second and do little else: 256 of
// them took four fifths of its throughput.
const (
	refusalPause    = 500 * time.Millisecond
	refusalsHeldMax = 2048
)

// gate bounds the requests of a kind that a node has in hand. One that finds it full is refused before anything is done
// for it: what is asked beyond what a node can do must take nothing from what it does, and a refusal serves its client
// better than an answer after its deadline. It is safe for many goroutines.
type gate struct {
	max     int64
	inHand  atomic.Int64
	held    atomic.Int64 // refusals that are not told yet
	refused prometheus.Counter
}

// errFull is what a gate refuses with.
var errFull = ledger.Refuse(ledger.Overloaded, "this node has as many requests in hand as it takes; nothing was applied")

// enter takes a place, or refuses with errFull after the pause.
func (g *gate) enter() error {
	if g.inHand.Add(1) > g.max {
		g.inHand.Add(-1)
		g.refused.Inc()
		if g.held.Add(1) <= refusalsHeldMax {
			time.Sleep(refusalPause)
		}
		g.held.Add(-1)
		return errFull
	}
	return nil
}

// tryEnter takes a place if there is one; who gets none is told so by other means.
func (g *gate) tryEnter() bool {
	if g.inHand.Add(1) > g.max {
		g.inHand.Add(-1)
		return false
	}
	return true
}

func (g *gate) leave() { g.inHand.Add(-1) }

// gates keep reads and changes apart, so that changes that wait for a database which is away do not stop the reads that
// its replicas go on answering. Those who wait for another system to decide are apart as well: a peer that is away must not
// stop payments inside this one. What is answered from memory, /readyz above all, has no gate.
type gates struct{ reads, changes, waits *gate }

func newGates(registry prometheus.Registerer, requestsMax int) (gates, error) {
	if requestsMax == 0 {
		requestsMax = RequestsMaxDefault
	}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lockstep_http_overloaded_total", Help: "Requests refused because the node had as many in hand as it takes.",
	}, []string{"kind"})
	if err := registry.Register(refused); err != nil {
		return gates{}, fmt.Errorf("register the overload metrics: %w", err)
	}
	open := func(kind string) (*gate, error) {
		g := &gate{max: int64(requestsMax), refused: refused.WithLabelValues(kind)}
		err := registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lockstep_http_requests_in_hand", Help: "Requests that the node works on.",
			ConstLabels: prometheus.Labels{"kind": kind},
		}, func() float64 { return float64(g.inHand.Load()) }))
		if err != nil {
			return nil, fmt.Errorf("register the overload metrics: %w", err)
		}
		return g, nil
	}
	reads, err := open("read")
	if err != nil {
		return gates{}, err
	}
	changes, err := open("change")
	if err != nil {
		return gates{}, err
	}
	waits, err := open("wait")
	return gates{reads: reads, changes: changes, waits: waits}, err
}

// of is the gate of a route; nil for one without.
func (g gates) of(r route) *gate {
	switch {
	case strings.HasPrefix(r.path, walletPath+"/assets/"):
		return nil
	case !strings.HasPrefix(r.path, "/v1/") && !strings.HasPrefix(r.path, walletPath) && r.path != "/":
		return nil
	case r.method == fiber.MethodGet:
		return g.reads
	}
	return g.changes
}
