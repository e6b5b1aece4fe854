package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/remit"
	"lockstep/node/store"
)

// Chances are what goes wrong, each in so many of a thousand cases.
type Chances struct {
	Drop    int // a request, an answer or an acknowledgement
	Repeat  int // a request or a message of the broker
	Forget  int // a message that the broker has acknowledged
	Unknown int // a COMMIT, before or after, whose caller goes on
	Crash   int // a node, at a COMMIT, a publication or an acknowledgement
	Stop    int // an owner, that wakes when others have gone on
}

// Options say what is simulated.
type Options struct {
	Seed     uint64
	Systems  [2]System // as they are; the simulation opens no accounts
	Mutant   Mutant    // must be of systems in memory
	Failover bool      // systems lose their last commits; in memory only
	Trace    func(format string, args ...any)
}

// The systems and their nodes.
const (
	Alpha = "alpha"
	Beta  = "beta"

	nodesOfSystem = 2
)

// How long a simulation lasts: faults happen in the first part.
const (
	chaos     = 40 * time.Second
	roundsMax = 30
	round     = 30 * time.Second
)

// world is both systems and what is between them.
type world struct {
	*schedule
	Options
	chances Chances
	parties [2]*party
	healed  bool

	clients   []*client
	decided   map[ledger.TransferID]bool // by a mutant that pivots first
	forgotten bool                       // the broker has lost a message
	wrongs    []string                   // what was seen on the way and must not be
	failure   error                      // of the simulation itself
}

// party is one system.
type party struct {
	*world
	name       string
	peer       *party
	system     System
	nodes      []*node
	epoch      int64
	reconciled bool
	lost       map[ledger.TransferID]bool // may have been in commits that a failover lost
	seen       map[ledger.TransferID]ledger.State
	inbox      []*letter
}

// node is one process of a system.
type node struct {
	world  *world
	party  *party
	name   string
	desk   *remit.Desk
	hands  *remit.Carrier
	actors []*actor
	known  int64 // the peer's epoch, as this node has last read it
}

// Run simulates a seed and returns what the auditor found, nil when all is as it should be.
func Run(options Options) (Report, error) {
	w := &world{schedule: newSchedule(options.Seed), Options: options, decided: map[ledger.TransferID]bool{}}
	w.chances = w.draw()
	for i, name := range []string{Alpha, Beta} {
		w.parties[i] = &party{world: w, name: name, system: options.Systems[i], epoch: firstEpoch, reconciled: true}
		w.parties[i].lost, w.parties[i].seen = map[ledger.TransferID]bool{}, map[ledger.TransferID]ledger.State{}
	}
	w.parties[0].peer, w.parties[1].peer = w.parties[1], w.parties[0]
	for _, p := range w.parties {
		if err := p.open(); err != nil {
			return Report{}, err
		}
	}
	w.Mutant.apply(w)
	if err := w.begin(); err != nil {
		return Report{}, err
	}
	w.runUntil(begin.Add(chaos))
	w.heal()
	report, err := w.audit()
	for _, p := range w.parties {
		p.close()
	}
	return report, errors.Join(w.failure, err)
}

// draw decides how much goes wrong in this simulation: some have but one kind of trouble, so that it is not hidden by
// others.
func (w *world) draw() Chances {
	stop := 40
	if w.Failover {
		stop = 120
	}
	some := func(perMille int) int { return perMille * w.random.IntN(3) / 2 }
	return Chances{
		Drop: some(200), Repeat: some(200), Forget: some(60), Unknown: some(80), Crash: some(60), Stop: some(stop),
	}
}

// open starts the nodes.
func (p *party) open() error {
	for i := range nodesOfSystem {
		n := &node{world: p.world, party: p, name: fmt.Sprintf("%s-%d", p.name, i+1), known: firstEpoch}
		desk, err := remit.Open(context.Background(), remit.DefaultConfig(), books{n}, engine{n}, directory{n}, asker{n}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		n.desk, n.hands = desk, remit.NewCarrier(desk, bus{n})
		p.nodes = append(p.nodes, n)
	}
	return nil
}

func (p *party) close() {
	for _, n := range p.nodes {
		p.kill(n)
		n.desk.Close()
	}
}

// any is one of the nodes.
func (p *party) any() *node { return p.nodes[p.random.IntN(len(p.nodes))] }

// crash kills a node; it is back at once.
func (n *node) crash(where string) {
	n.world.trace("%s dies %s", n.name, where)
	n.world.kill(n)
}

// pause is how long something takes at a node: as a rule a moment, sometimes until others have gone on.
func (n *node) pause() time.Duration {
	w := n.world
	switch {
	case w.healed:
		return w.between(time.Millisecond, 2*time.Millisecond)
	case w.chance(w.chances.Stop):
		if w.Failover { // what an owner has in hand is most dangerous when others end it meanwhile
			w.after(w.between(0, 3*time.Second), n.party.abortAny)
		}
		return w.between(3*time.Second, 30*time.Second)
	case w.chance(100):
		return w.between(0, time.Second)
	}
	return w.between(0, 10*time.Millisecond)
}

// goesWrong draws one of the troubles, none of which happens after the chaos.
func (w *world) goesWrong(perMille int) bool { return !w.healed && w.chance(perMille) }

func (w *world) trace(format string, args ...any) {
	if w.Trace != nil {
		w.Trace("%8.3fs "+format, append([]any{w.now.Sub(begin).Seconds()}, args...)...)
	}
}

// fail ends the simulation with an error that is not about money.
func (w *world) fail(err error) {
	if err != nil && w.failure == nil {
		w.failure = err
	}
}

// engine is the way to the system's engine from one node.
type engine struct{ *node }

// Submit implements posting.Submitter.
func (e engine) Submit(ctx context.Context, command posting.Command) (outcome posting.Outcome, failure error) {
	err := outside(ctx, func(answer func(func())) {
		result, refusal, err := e.commit(command.Operation)
		answer(func() {
			outcome = posting.Outcome{Result: result, Refusal: refusal}
			failure = err
		})
	})
	return outcome, errors.Join(err, failure)
}

// commit runs an operation, whose COMMIT may have any fate, and the node as well.
func (n *node) commit(operation ledger.Operation) (ledger.Result, *ledger.Error, error) {
	if first, there := n.claimed(operation); there {
		return first, nil, nil
	}
	w, fate, dies := n.world, Commits, false
	if lost := w.goesWrong(w.chances.Unknown); lost || w.goesWrong(w.chances.Crash) {
		fate, dies = LosesCommit+Fate(w.random.IntN(2)), !lost
	}
	result, refusal, err := n.party.system.Submit(operation, w.now, fate)
	w.trace("%s %s", n.name, told(operation, fate, result, refusal))
	switch {
	case errors.Is(err, ErrLost):
		err = ledger.Refuse(ledger.OutcomeUnknown, "nobody answered")
	case err != nil:
		w.fail(fmt.Errorf("%s: %T: %w", n.name, operation, err))
	case refusal != nil && refusal.Code == ledger.TransferConflict && !is[ledger.NoteCredit](operation): // parked or stale
		w.wrongs = append(w.wrongs, fmt.Sprintf("a conflict at %s: %v", n.name, refusal))
	case result.Remittance != nil:
		n.party.watch(*result.Remittance)
	}
	w.after(w.between(0, 20*time.Millisecond), n.sweep)
	n.party.tempt(operation)
	if dies {
		n.crash("at a COMMIT")
	}
	return result, refusal, err
}

// claimed stands for the idempotency key of a client's request: a second one finds what the first has made.
func (n *node) claimed(operation ledger.Operation) (first ledger.Result, there bool) {
	remit, is := operation.(ledger.Remit)
	if !is {
		return first, false
	}
	found, err := n.party.system.Remittances(remit.ID)
	n.world.fail(err)
	r, there := found[remit.ID]
	return ledger.Result{Remittance: &r, Transfer: r.Transfer}, there
}

// watch sees that a remittance leaves Pending once and never comes back.
func (p *party) watch(r ledger.Remittance) {
	before, known := p.seen[r.ID]
	if known && before != ledger.Pending && before != r.State {
		p.wrongs = append(p.wrongs, fmt.Sprintf("%s: %s was %s and is %s", p.name, r.ID, before, r.State))
	}
	p.seen[r.ID] = r.State
}

func told(operation ledger.Operation, fate Fate, result ledger.Result, refusal *ledger.Error) string {
	text := fmt.Sprintf("%T", operation)
	if payment, is := operation.(interface{ TransferID() ledger.TransferID }); is {
		text += " " + string(payment.TransferID())
	}
	if remote, is := operation.(ledger.RemoteOperation); is {
		text += fmt.Sprint(" ", remote.Remittances())
	}
	switch {
	case fate != Commits:
		text += fmt.Sprint(", fate ", fate)
	case refusal != nil:
		text += ": " + refusal.Error()
	case result.Remittance != nil:
		text += ": " + string(result.Remittance.State)
	}
	return text
}

// books are the system's database beside the engine, as a node reads it.
type books struct{ *node }

func (b books) System() string                           { return b.party.name }
func (b books) Epoch() int64                             { return b.party.epoch }
func (b books) Reconciled() bool                         { return b.party.reconciled }
func (b books) Now() time.Time                           { return b.world.now }
func (b books) Position(context.Context) (t store.Token) { return t }

// Remittances implements remit.Books. What it answers may be old by the time that it is heard.
func (b books) Remittances(ctx context.Context, ids ...ledger.TransferID) (found map[ledger.TransferID]ledger.Remittance, err error) {
	died := outside(ctx, func(answer func(func())) {
		read, failure := b.party.system.Remittances(ids...)
		b.world.fail(failure)
		answer(func() { found, err = read, failure })
	})
	return found, errors.Join(died, err)
}

// InsideIDs implements remit.Books.
func (b books) InsideIDs(ctx context.Context, ids ...ledger.TransferID) (found map[ledger.TransferID]bool, err error) {
	died := outside(ctx, func(answer func(func())) {
		read, failure := b.party.system.InsideIDs(ids...)
		b.world.fail(failure)
		answer(func() { found, err = read, failure })
	})
	return found, errors.Join(died, err)
}

// RemittancesBetween implements remit.Books.
func (b books) RemittancesBetween(ctx context.Context, payer, payee string, after ledger.TransferID, limit int) (list []ledger.Remittance, err error) {
	died := outside(ctx, func(answer func(func())) {
		read, failure := b.party.system.Between(payer, payee, after, limit)
		b.world.fail(failure)
		answer(func() { list, err = read, failure })
	})
	return list, errors.Join(died, err)
}

// RemittancesDigest implements remit.Books.
func (b books) RemittancesDigest(ctx context.Context, payer, payee string, after, until ledger.TransferID, limit int) (digest *ledger.Digest, err error) {
	died := outside(ctx, func(answer func(func())) {
		read, failure := b.party.system.Digest(payer, payee, after, until, limit)
		b.world.fail(failure)
		answer(func() { digest, err = read, failure })
	})
	return digest, errors.Join(died, err)
}

func is[T ledger.Operation](operation ledger.Operation) bool {
	_, is := operation.(T)
	return is
}
