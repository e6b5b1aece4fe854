package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"lockstep/cluster/local"
)

// Period is a part of the run, in which some faults were applied or none.
type Period struct {
	From time.Duration `json:"from_ns"`
	To   time.Duration `json:"to_ns"`
	Calm bool          `json:"calm"`
}

// Incident is one fault that was chosen, and what became of it.
type Incident struct {
	Fault  string        `json:"fault"`
	On     []string      `json:"on"`
	From   time.Duration `json:"from_ns"`
	To     time.Duration `json:"to_ns"`
	Failed string        `json:"failed,omitempty"` // why it was not applied, or not healed
}

// noted counts what faults did, by what it means.
type noted struct {
	mu     sync.Mutex
	counts map[string]int
}

func (n *noted) note(meaning string, count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.counts == nil {
		n.counts = map[string]int{}
	}
	n.counts[meaning] += count
}

func (n *noted) figures() (all []Figure) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, meaning := range slices.Sorted(maps.Keys(n.counts)) {
		all = append(all, Figure{Meaning: meaning, Value: float64(n.counts[meaning])})
	}
	return all
}

// target is the cluster that suffers.
type target struct {
	cluster *local.Cluster
	systems []local.SystemCredentials
	dir     string           // of the cluster
	binary  string           // that its nodes run
	network *network         // between its processes
	disks   map[string]*disk // on which databases and NATS stand, by process; nil when no fault needs them
	heal    sync.Map         // what a fault left for its heal, by fault and place
	noted   noted
}

const (
	faultsPerPeriodMax = 3
	injectMax          = 45 * time.Second
	healMax            = 45 * time.Second // a killed database reads its logs again
	calmEvery          = 4
	lastLeast          = 4 // what all faults of a period have in common is at least this part of it
)

// nemesis applies faults, chosen by a seed, and heals them.
type nemesis struct {
	*target
	faults  []fault
	random  *rand.Rand
	length  time.Duration // of a period
	restful bool          // a quarter of the periods is calm
	now     func() time.Duration
	say     func(format string, args ...any)

	injectMax time.Duration // for applying one fault

	deck      []fault // not yet dealt
	periods   []Period
	incidents []Incident
}

// run goes on from period to period until the end. Whatever it applied is healed when it returns.
func (n *nemesis) run(ctx context.Context, end time.Duration) {
	calm := 0 // the first period shows what there is without faults
	for number := 0; n.now() < end && ctx.Err() == nil; number++ {
		if number%calmEvery == 0 && number > 0 {
			calm = n.random.IntN(calmEvery)
		}
		if n.restful && number%calmEvery == calm {
			n.rest(ctx, end)
			continue
		}
		n.strike(ctx)
	}
}

func (n *nemesis) rest(ctx context.Context, end time.Duration) {
	period := Period{From: n.now(), Calm: true}
	n.say("calm")
	sleep(ctx, min(n.length, max(end-n.now(), 0)))
	period.To = n.now()
	n.periods = append(n.periods, period)
}

// strike applies the faults of a period one after the other, and heals them when it ends.
func (n *nemesis) strike(ctx context.Context) {
	period := Period{From: n.now()}
	chosen, places := n.deal()
	incidents := make([]Incident, len(chosen))
	pause := n.length / time.Duration(2*len(chosen)+2)
	for i, f := range chosen {
		sleep(ctx, n.between(pause))
		n.say("%s: %s", f.name, strings.Join(places[i], ", "))
		incidents[i] = Incident{Fault: f.name, On: places[i], From: n.now()}
		incidents[i].note(n.inject(ctx, f, places[i]))
	}
	sleep(ctx, max(period.From+n.length-pause-n.now(), n.length/lastLeast)) // however long one of them took to apply
	var healing sync.WaitGroup
	for i, f := range chosen {
		healing.Go(func() {
			within, cancel := context.WithTimeout(context.WithoutCancel(ctx), healMax)
			defer cancel()
			incidents[i].note(f.heal(within, n.target, places[i]))
			incidents[i].To = n.now()
		})
	}
	healing.Wait()
	n.say("healed")
	sleep(ctx, pause)
	period.To = n.now()
	n.periods, n.incidents = append(n.periods, period), append(n.incidents, incidents...)
}

// inject applies a fault, within a time: what waits for a process that another fault keeps from starting is healed with that one.
func (n *nemesis) inject(ctx context.Context, f fault, on []string) error {
	ctx, cancel := context.WithTimeout(ctx, n.injectMax)
	defer cancel()
	return f.inject(ctx, n.target, on)
}

func (i *Incident) note(err error) {
	if err != nil {
		i.Failed = strings.TrimPrefix(i.Failed+"; "+err.Error(), "; ")
	}
}

// between is a random time up to most.
func (n *nemesis) between(most time.Duration) time.Duration {
	return time.Duration(n.random.Int64N(int64(most)))
}

// deal takes faults from a shuffled deck, so that each comes before any comes again. No two of a period have to do with the
// same process: a killed one cannot be stopped as well. What has to wait for that, or has no place now, is the next.
func (n *nemesis) deal() (chosen []fault, places [][]string) {
	want := 1 + n.random.IntN(min(faultsPerPeriodMax, len(n.faults)))
	if len(n.deck) < want {
		more := slices.Clone(n.faults)
		n.random.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
		n.deck = append(n.deck, more...)
	}
	var names, taken []string
	var later []fault
	for i, f := range n.deck {
		if len(chosen) == want {
			later = append(later, n.deck[i:]...)
			break
		}
		on := f.on(n.target, n.random)
		ends := endsOf(on)
		if len(on) == 0 || slices.Contains(names, f.name) || slices.ContainsFunc(ends, func(end string) bool { return slices.Contains(taken, end) }) {
			later = append(later, f)
			continue
		}
		names, taken, chosen, places = append(names, f.name), append(taken, ends...), append(chosen, f), append(places, on)
	}
	n.deck = later
	return chosen, places
}

// endsOf are the processes that places have to do with: a link has two.
func endsOf(places []string) (ends []string) {
	for _, place := range places {
		ends = append(ends, strings.Split(place, linkSign)...)
	}
	return ends
}

// fault is one thing that can happen. Its places are processes or links, which no other fault of the period touches; none means
// that it cannot happen now.
type fault struct {
	name   string
	on     func(t *target, random *rand.Rand) []string
	inject func(ctx context.Context, t *target, on []string) error
	heal   func(ctx context.Context, t *target, on []string) error
}

// every does the same to each place.
func every(do func(ctx context.Context, t *target, name string) error) func(context.Context, *target, []string) error {
	return func(ctx context.Context, t *target, on []string) error {
		var all error
		for _, name := range on {
			if err := do(ctx, t, name); err != nil {
				all = errors.Join(all, fmt.Errorf("%s: %w", name, err))
			}
		}
		return all
	}
}
