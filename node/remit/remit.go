// Package remit brings transfers between payment systems to their end, on both sides: it holds, asks the peer for its
// promise and decides in the payer's system, and promises, credits or releases in the payee's. DESIGN.md tells how.
package remit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/cluster/peers"
	"lockstep/cluster/traces"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
)

// Config bounds transfers between systems.
type Config struct {
	ExpiresIn time.Duration // a transfer that the peer has not promised by then is given up
	LookAfter time.Duration // somebody goes on with a transfer whose node said nothing for so long
	AskAfter  time.Duration // a promise that nobody decided is asked about
	Sealer    Sealer        // of origins; nil makes none, and a key that is lost with its transfer is not found again

	Traces *traces.Traces // nil is off

	// Fault, if set, is called between every two steps; an error abandons the transfer in this node, as if it had died.
	Fault func(point string) error
}

// DefaultConfig suits peers that are near one another.
func DefaultConfig() Config {
	return Config{ExpiresIn: 15 * time.Second, LookAfter: 5 * time.Second, AskAfter: 20 * time.Second}
}

// Validate refuses times that contradict one another.
func (c Config) Validate() error {
	switch {
	case c.LookAfter < time.Second || c.ExpiresIn < 2*time.Second:
		return errors.New("remit: look_after must be at least 1s and expires_in at least 2s")
	case c.AskAfter < c.LookAfter:
		return errors.New("remit: ask_after must be at least look_after")
	}
	return nil
}

// Asker asks peers; *peers.Client is one.
type Asker interface {
	Prepare(ctx context.Context, peer string, transfer peers.Transfer) (peers.PrepareResult, error)
	Inquire(ctx context.Context, peer, payer, ifUnknown string, ids ...string) (peers.InquiryAnswer, error)
}

// Books is what a desk needs of the system's database beside the engine.
type Books interface {
	System() string
	Epoch() int64                             // of this system
	Reconciled() bool                         // false after a restore, until its books were compared with those of its peers
	Now() time.Time                           // the database's
	Position(ctx context.Context) store.Token // for all that is committed now
	// Remittances and InsideIDs read at the source: what is decided from must not be old.
	Remittances(ctx context.Context, ids ...ledger.TransferID) (map[ledger.TransferID]ledger.Remittance, error)
	// InsideIDs tells which ids transfers inside this system have, which peers have no business with.
	InsideIDs(ctx context.Context, ids ...ledger.TransferID) (map[ledger.TransferID]bool, error)
	// RemittancesBetween lists what one system pays to another, in order of the ids, from the one after that id.
	RemittancesBetween(ctx context.Context, payer, payee string, after ledger.TransferID, limit int) ([]ledger.Remittance, error)
	// RemittancesDigest stands for what one system pays to another and has not given up: at most limit remittances with ids
	// above after, up to until if that is given.
	RemittancesDigest(ctx context.Context, payer, payee string, after, until ledger.TransferID, limit int) (*ledger.Digest, error)
}

// Directory knows peers and their keys; *peers.Directory is one.
type Directory interface {
	Peer(id string) (peers.Peer, bool)
	State(fact peers.Fact) (stated string, err error)
	StateAll(facts []peers.Fact) (stated []string, err error) // each is believed by itself
	Read(jws string) (peers.Fact, error)
}

// Desk does this system's part of transfers between systems. It is safe for many goroutines; every node has one, and each
// may go on with what another began.
type Desk struct {
	config    Config
	books     Books
	engine    posting.Submitter
	directory Directory
	asker     Asker
	log       *slog.Logger
	metrics   *metrics

	life    context.Context
	end     context.CancelFunc
	driving sync.WaitGroup

	mu      sync.Mutex
	waiting map[ledger.TransferID][]chan Final
}

// Final is a transfer's end, and a state of the database that shows it.
type Final struct {
	Remittance ledger.Remittance
	Token      store.Token
}

// Open makes a desk.
func Open(ctx context.Context, config Config, books Books, engine posting.Submitter, directory Directory, asker Asker,
	registry prometheus.Registerer, log *slog.Logger,
) (*Desk, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	d := &Desk{
		config: config, books: books, engine: engine, directory: directory, asker: asker, log: log,
		metrics: newMetrics(registry), waiting: map[ledger.TransferID][]chan Final{},
	}
	d.life, d.end = context.WithCancel(context.WithoutCancel(ctx))
	return d, nil
}

// Close leaves what is under way to other nodes, and waits until that is so.
func (d *Desk) Close() {
	d.end()
	d.driving.Wait()
}

// Peer finds a peer as the ledger knows it.
func (d *Desk) Peer(id string) (ledger.Peer, bool) {
	peer, known := d.directory.Peer(id)
	return ledger.Peer{System: peer.ID, Settlement: ledger.AccountID(peer.Settlement)}, known
}

// Terms are what a new transfer to a peer is held on.
func (d *Desk) Terms() (epoch int64, expiresIn, lookAfter time.Duration) {
	return d.books.Epoch(), d.config.ExpiresIn, d.config.LookAfter
}

// errUnreconciled says that what is not known here may have happened all the same.
func errUnreconciled() error {
	return ledger.Refuse(ledger.SourceUnavailable, "this system was restored and is comparing its books with those of its peers")
}

// unreconciledPause is between two looks at a saga that waits for the end of a reconciliation.
const unreconciledPause = time.Second

// errAbandoned says that a fault point was hit: this node behaves as if it had died.
var errAbandoned = errors.New("remit: abandoned at a fault point")

// Fault calls a fault point of what works for the desk, such as the bus, and counts it if it acts.
func (d *Desk) Fault(point string) error { return d.fault(point) }

// fault calls a fault point.
func (d *Desk) fault(point string) error {
	if d.config.Fault == nil {
		return nil
	}
	if err := d.config.Fault(point); err != nil {
		d.metrics.faults.WithLabelValues(point).Inc()
		return fmt.Errorf("%w: %s", errAbandoned, point)
	}
	return nil
}

// decideMax bounds one command of ours in the engine.
const decideMax = 10 * time.Second

// submit runs a command of the protocol, which no client waits for by itself. A refusal is an error here.
func (d *Desk) submit(ctx context.Context, operation ledger.Operation) (Final, error) {
	return d.submitFor(ctx, posting.Command{Operation: operation})
}

// submitFor is submit for a client's request.
func (d *Desk) submitFor(ctx context.Context, command posting.Command) (Final, error) {
	ctx, cancel := context.WithTimeout(ctx, decideMax)
	defer cancel()
	outcome, err := d.engine.Submit(ctx, command)
	switch {
	case err != nil:
		return Final{}, err
	case outcome.Refusal != nil:
		return Final{}, outcome.Refusal
	case outcome.Result.Remittance == nil:
		return Final{}, fmt.Errorf("remit: %T told nothing", command.Operation)
	}
	return Final{Remittance: *outcome.Result.Remittance, Token: outcome.Token}, nil
}
