package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/api"
	"lockstep/api/auth"
	"lockstep/cluster/events"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/remit"
	"lockstep/node/store"
	"lockstep/saga"
)

// sagaDatabase gives package saga the store's transactions.
type sagaDatabase struct{ *store.Store }

// Begin implements saga.Database.
func (d sagaDatabase) Begin(ctx context.Context) (saga.Transaction, error) {
	tx, err := d.Store.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return sagaTransaction{tx}, nil
}

type sagaTransaction struct{ *store.Tx }

// Commit implements saga.Transaction.
func (t sagaTransaction) Commit(ctx context.Context) error {
	_, err := t.Tx.Commit(ctx)
	return err
}

// nonces gives the signatures' verifier the store's memory.
type nonces struct{ *store.Store }

// Remember implements httpsig.NonceStore.
func (n nonces) Remember(ctx context.Context, keyID, nonce string, until time.Time) (bool, error) {
	return n.RememberNonce(ctx, keyID, nonce, until)
}

// books gives the desk the store's reads.
type books struct{ *store.Store }

// Remittances implements remit.Books.
func (b books) Remittances(ctx context.Context, ids ...ledger.TransferID) (found map[ledger.TransferID]ledger.Remittance, err error) {
	err = atSource(ctx, b.Store, func(ctx context.Context, q *store.Queries) error {
		found, err = q.Remittances(ctx, ids)
		return err
	})
	return found, err
}

// RemittancesBetween implements remit.Books.
func (b books) RemittancesBetween(ctx context.Context, payer, payee string, after ledger.TransferID, limit int) (list []ledger.Remittance, err error) {
	err = atSource(ctx, b.Store, func(ctx context.Context, q *store.Queries) error {
		list, err = q.RemittancesBetween(ctx, payer, payee, after, limit)
		return err
	})
	return list, err
}

// RemittancesDigest implements remit.Books.
func (b books) RemittancesDigest(ctx context.Context, payer, payee string, after, until ledger.TransferID, limit int) (digest *ledger.Digest, err error) {
	err = atSource(ctx, b.Store, func(ctx context.Context, q *store.Queries) error {
		digest, err = q.RemittancesDigest(ctx, payer, payee, after, until, limit)
		return err
	})
	return digest, err
}

// InsideIDs implements remit.Books.
func (b books) InsideIDs(ctx context.Context, ids ...ledger.TransferID) (found map[ledger.TransferID]bool, err error) {
	err = atSource(ctx, b.Store, func(ctx context.Context, q *store.Queries) error {
		found, err = q.InsideIDs(ctx, ids)
		return err
	})
	return found, err
}

func atSource(ctx context.Context, db *store.Store, work func(context.Context, *store.Queries) error) error {
	_, err := db.Read(ctx, store.Consistency{Source: true}, work)
	return err
}

// loadPeers reads the peers as the directory wants them.
func loadPeers(db *store.Store) func(context.Context) ([]peers.Peer, error) {
	return func(ctx context.Context) (list []peers.Peer, err error) {
		err = atSource(ctx, db, func(ctx context.Context, q *store.Queries) error {
			rows, err := q.Peers(ctx)
			list = nil
			for _, row := range rows {
				list = append(list, peers.Peer{
					ID: row.ID, Settlement: int64(row.Settlement), BaseURL: row.BaseURL, JWKS: row.JWKS, Epoch: row.Epoch,
				})
			}
			return err
		})
		return list, err
	}
}

// openPeers puts transfers between systems on top of the engine.
func (n *Node) openPeers(ctx context.Context, registry prometheus.Registerer) error {
	keys, err := auth.OpenPeerKeys(ctx, authConfig(n.config, n.store, n.log))
	if err != nil {
		return err
	}
	directory, err := peers.OpenDirectory(ctx, n.config.System, keys, loadPeers(n.store), n.log)
	if err != nil {
		return err
	}
	n.onClose(func(context.Context) error { directory.Close(); return nil })
	client, err := n.config.peerClient(directory, n.store.Epoch, registry)
	if err != nil {
		return err
	}
	n.onClose(func(context.Context) error { client.Close(); return nil })
	n.sagas = saga.NewLog(sagaDatabase{n.store}, n.config.Peers.StuckAfter)
	bounds, err := n.config.remitter()
	if err != nil {
		return err
	}
	bounds.Traces = n.traces
	n.desk, err = remit.Open(ctx, bounds, books{n.store}, n.engine, directory, client, registry, n.log)
	if err != nil {
		return err
	}
	n.onClose(func(context.Context) error { n.desk.Close(); return nil })
	n.peers = &api.Peers{
		Remitter: n.desk, Directory: directory, Client: client, Authorities: n.config.Peers.Authorities,
		Nonces: nonces{n.store}, Epoch: n.store.Epoch, Raise: n.store.RaiseEpoch, Sagas: transferSagas{n.sagas, n.store}, Books: books{n.store},
	}
	if err := n.openRunner(ctx); err != nil {
		return err
	}
	registry.MustRegister(sagaMetrics{n})
	return n.openBus(ctx)
}

// remit bounds transfers between systems.
func (c Config) remit() remit.Config {
	config := remit.DefaultConfig()
	config.ExpiresIn, config.LookAfter, config.AskAfter = c.Peers.ExpiresIn, c.Peers.LookAfter, c.Peers.AskAfter
	config.Fault = abandonPoints(c.Faults)
	return config
}

// remitter is remit with what seals the clients' requests.
func (c Config) remitter() (remit.Config, error) {
	config := c.remit()
	origins, err := auth.OpenOrigins(auth.Config{System: c.System, Secret: c.Secret})
	config.Sealer = origins
	return config, err
}

// openRunner goes on with transfers that another node has left.
func (n *Node) openRunner(ctx context.Context) error {
	runner := saga.DefaultRunner(n.sagas, map[string]saga.Handler{"remit": n.desk.Remitting, "await": n.desk.Awaiting})
	runner.Lease, runner.Logger, runner.Workers = n.config.Peers.LookAfter, n.log, 32
	runner.Fetch = n.fetchSagas
	runner.Poll = min(time.Second, n.config.Peers.LookAfter/2)
	runner.Backoff.Max = max(n.config.Peers.LookAfter, runner.Backoff.Min)
	if err := runner.Open(ctx); err != nil {
		return err
	}
	n.onClose(func(context.Context) error { return runner.Close() })
	return nil
}

// peerClient asks other systems, over connections as the configuration wants them.
func (c Config) peerClient(directory *peers.Directory, epoch func() int64, registry prometheus.Registerer) (*peers.Client, error) {
	secured, err := c.Peers.TLS.config()
	if err != nil {
		return nil, fmt.Errorf("peers.%w", err)
	}
	return peers.NewClient(directory, epoch, registry).Secure(secured), nil
}

// busConfig is how a node speaks to the broker.
func (n *Node) busConfig() (events.Config, error) {
	config := events.Default()
	config.URL, config.User, config.Password, config.System = n.config.NATS.URL, n.config.NATS.User, n.config.NATS.Password, n.config.System
	config.Replicas, config.Log = n.config.NATS.Replicas, n.log
	if n.config.NATS.MaxDeliver > 0 {
		config.MaxDeliver = n.config.NATS.MaxDeliver
	}
	config.Fault = n.carrierFault
	var err error
	if config.TLS, err = n.config.NATS.TLS.config(); err != nil {
		return events.Config{}, fmt.Errorf("nats.%w", err)
	}
	return config, nil
}

// carrierFault is called around each publication and each acknowledgement.
func (n *Node) carrierFault(point string) error { return n.desk.Fault(busFaults[point]) }

// busFaults are the names under which a configuration knows the fault points of the bus and the outbox.
var busFaults = map[string]string{
	events.FaultBeforePublish: "publish_before", events.FaultAfterPublish: "publish_after",
	events.FaultBeforeAck: "ack_before", events.FaultAfterAck: "ack_after",
	"publish: before": "outbox_before", "publish: after": "outbox_after",
}

// openBus publishes what the engine announces and hears what peers state. Without a broker's address a system is alone.
func (n *Node) openBus(ctx context.Context) error {
	if n.config.NATS.URL == "" {
		return nil
	}
	config, err := n.busConfig()
	if err != nil {
		return err
	}
	bus, err := events.Open(ctx, config)
	if err != nil {
		return err
	}
	n.bus = bus
	n.onClose(func(context.Context) error { bus.Close(); return nil })
	carrier := remit.NewCarrier(n.desk, bus)
	n.outbox = saga.DefaultOutbox(sagaDatabase{n.store}, carrier)
	n.outbox.Logger, n.outbox.Workers, n.outbox.Fault = n.log, outboxWorkers, n.carrierFault
	n.outbox.Ready, n.outbox.AttemptsMax = bus.Connected, config.MaxDeliver // a broker may be away for days, and that is no attempt
	n.outbox.Backoff = saga.Backoff{Min: backoffMin, Max: n.config.NATS.BackoffMax, Jitter: publishJitter}
	if err := n.outbox.Open(ctx); err != nil {
		return err
	}
	n.onClose(func(context.Context) error { return n.outbox.Close() })
	n.peers.Letters, n.peers.Parked = bus, n.outbox
	n.announce(ctx)
	ready := func() bool { return n.store.State().Source.OK && n.store.Reconciled() }
	return bus.Consume(carrier.Handle, events.Options{Ready: ready, Parallel: consumeParallel})
}

const (
	outboxWorkers   = 256
	consumeParallel = 8
	publishJitter   = 0.2                    // so that the attempts of a message take about as long as its deliveries would
	announcedMax    = 4096                   // messages that wait to be published at once; the sweeper takes the rest
	peersPause      = 20 * time.Millisecond  // what several batches decide travels together, for no client waits for it
	peersRest       = 200 * time.Millisecond // between two messages to peers: of many decisions each message tells many
	ownEventsPause  = 250 * time.Millisecond // own listeners are told together, for nobody's money waits for them
	publishedMax    = 64                     // publications that wait to be forgotten
	forgetPause     = time.Second            // before the sweeper would publish again what was published
)

// announced is what the engine's lanes hand over after each commit. They never wait here.
func (n *Node) announced(messages []saga.Message) {
	for _, message := range messages {
		queue := n.toPeers
		if message.Destination == posting.OwnEvents {
			queue = n.toOwn
		}
		select {
		case queue <- message:
		default:
		}
	}
}

// announce publishes at once what was just committed.
func (n *Node) announce(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var publishing sync.WaitGroup
	published := make(chan []string, publishedMax)
	publishing.Go(func() { n.publishFrom(ctx, n.toPeers, peersPause, peersRest, published) })
	publishing.Go(func() { n.publishFrom(ctx, n.toOwn, ownEventsPause, 0, published) })
	var forgetting sync.WaitGroup
	forgetting.Go(func() { n.forget(context.WithoutCancel(ctx), published) })
	n.onClose(func(context.Context) error {
		cancel()
		publishing.Wait()
		close(published)
		forgetting.Wait()
		return nil
	})
}

// forget deletes from the outbox what was published, many rows at a time and the last ones when there will be no more.
func (n *Node) forget(ctx context.Context, published <-chan []string) {
	ticker := time.NewTicker(forgetPause)
	defer ticker.Stop()
	var ids []string
	for more := true; more; {
		select {
		case list, open := <-published:
			if ids, more = append(ids, list...), open; open {
				continue
			}
		case <-ticker.C:
		}
		if err := n.outbox.Forget(ctx, ids...); err != nil {
			n.log.Debug("the sweeper publishes again what was published", "error", err)
		}
		ids = nil
	}
}

// publishFrom publishes what comes, all that comes within the pause together, and hands on what was taken. From one publication
// to the next it rests.
func (n *Node) publishFrom(ctx context.Context, queue <-chan saga.Message, pause, rest time.Duration, published chan<- []string) {
	var last time.Time
	for {
		var batch []saga.Message
		select {
		case <-ctx.Done():
			return
		case message := <-queue:
			batch = append(batch, message)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(pause, rest-time.Since(last))):
		}
		last = time.Now()
		for more := true; more && len(batch) < outboxWorkers; {
			select {
			case message := <-queue:
				batch = append(batch, message)
			default:
				more = false
			}
		}
		taken, err := n.outbox.Tell(ctx, batch...)
		if err != nil && ctx.Err() == nil {
			n.log.Debug("what was not published is left to the sweeper", "error", err)
		}
		published <- taken
	}
}

// Housekeeping of what protocols leave behind.
const (
	cleanEvery = time.Minute
	sagasKept  = 7 * 24 * time.Hour
	cleanBatch = 500
)

// cleanUp forgets nonces whose time is over, sagas and deliveries that ended long ago and dead letters that were settled.
func (n *Node) cleanUp(ctx context.Context) {
	_, err := n.sagas.Clean(ctx, sagasKept, cleanBatch)
	if err := errors.Join(err, n.store.ForgetNonces(ctx), n.dispatcher.Forget(ctx), n.peers.SettleLetters(ctx)); err != nil && ctx.Err() == nil {
		n.log.Debug("housekeeping is left to the next minute", "error", err)
	}
}

// busWarning says what is wrong with the broker, if anything is.
func (n *Node) busWarning() string {
	switch {
	case n.bus == nil:
		return ""
	case !n.bus.Connected():
		return "nats: no broker answers; what there is to tell waits, and inquiries settle what hangs"
	}
	if err := n.bus.Stats().Layout; err != nil {
		return fmt.Sprintf("nats: %v", err)
	}
	return ""
}
