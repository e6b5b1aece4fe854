package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	dialMax         = time.Second
	reconnectMin    = 50 * time.Millisecond
	reconnectMax    = 2 * time.Second
	pingEvery       = 5 * time.Second // two without an answer end the connection
	pingsMissedMax  = 2
	closeHandlerMax = 5 * time.Second // then a handler's context ends
)

// Bus is one system's connection to the broker. It is safe for use by many goroutines.
type Bus struct {
	config Config
	log    *slog.Logger
	conn   *nats.Conn
	js     jetstream.JetStream
	look   chan struct{} // asks for a look at the streams

	life    context.Context // ends when Close begins
	end     context.CancelFunc
	hands   context.Context // ends when handlers had their time to end; until then they may use the Bus
	drop    context.CancelFunc
	working sync.WaitGroup
	closed  chan struct{} // closed when the connection has ended
	closing sync.Once

	counters counters

	mu        sync.Mutex
	layout    error           // why the streams are not known to be there
	online    context.Context // ends with the connection; nil without one
	offline   context.CancelFunc
	consuming bool
	obstacle  string // why the last attempt to connect failed
}

var errLayoutUnknown = errors.New("not looked at yet")

// Open returns at once, also when no broker answers: the Bus connects and makes its streams in the background, and goes on
// trying for as long as it is open. It refuses a configuration that Validate refuses. ctx bounds nothing but Open itself.
func Open(ctx context.Context, config Config) (*Bus, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	b := &Bus{config: config, log: config.Log, look: make(chan struct{}, 1), closed: make(chan struct{}), layout: errLayoutUnknown}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.life, b.end = context.WithCancel(context.WithoutCancel(ctx))
	b.hands, b.drop = context.WithCancel(context.WithoutCancel(ctx))
	conn, err := nats.Connect(config.URL, b.options()...)
	if err != nil {
		b.end()
		b.drop()
		return nil, fmt.Errorf("open the event bus: %w", err)
	}
	b.conn = conn
	if b.js, err = jetstream.New(conn, jetstream.WithDefaultTimeout(config.PublishWait)); err != nil {
		b.end()
		b.drop()
		conn.Close()
		return nil, fmt.Errorf("open the event bus: %w", err)
	}
	b.working.Go(b.keepLayout)
	return b, nil
}

// options let the connection outlive every outage. Nothing is buffered meanwhile: a message goes out now, or its publisher
// hears that it did not.
func (b *Bus) options() []nats.Option {
	return []nats.Option{
		nats.Name("lockstep " + b.config.System), nats.UserInfo(b.config.User, b.config.Password),
		nats.Timeout(dialMax), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(func(attempts int) time.Duration {
			return vary(min(reconnectMax, reconnectMin<<min(attempts, 10)))
		}),
		nats.ReconnectBufSize(-1), nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(pingsMissedMax),
		nats.ConnectHandler(func(*nats.Conn) { b.connected() }), nats.ReconnectHandler(func(*nats.Conn) { b.connected() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { b.disconnected(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { b.unreached(err) }),
		nats.ClosedHandler(func(*nats.Conn) { close(b.closed) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.log.Warn("event broker complains", "error", err)
		}),
		func(o *nats.Options) error {
			if b.config.TLS != nil {
				return nats.Secure(b.config.TLS)(o)
			}
			return nil
		},
	}
}

// unreached says why no broker could be reached, such as a certificate that is not believed: once, not at each attempt.
func (b *Bus) unreached(err error) {
	b.mu.Lock()
	known := b.obstacle == err.Error()
	b.obstacle = err.Error()
	b.mu.Unlock()
	if !known {
		b.log.Warn("event broker not reached", "error", err)
	}
}

func (b *Bus) connected() {
	b.disconnected(nil) // what was asked on an earlier connection is not answered on this one
	b.mu.Lock()
	b.online, b.offline = context.WithCancel(b.hands)
	b.obstacle = ""
	b.mu.Unlock()
	b.log.Info("event broker connected", "system", b.config.System)
	b.lookAfter()
}

func (b *Bus) disconnected(err error) {
	b.mu.Lock()
	offline := b.offline
	b.online, b.offline = nil, nil
	b.mu.Unlock()
	if offline == nil {
		return
	}
	offline()
	if err != nil && b.life.Err() == nil {
		b.log.Warn("event broker lost", "error", err)
	}
}

// bound is ctx for one question to the broker: it ends after limit, and with the present connection, for what was asked of one
// that has ended is never answered; ErrDisconnected is then its cause.
func (b *Bus) bound(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc, error) {
	b.mu.Lock()
	online := b.online
	b.mu.Unlock()
	switch {
	case b.hands.Err() != nil:
		return nil, nil, ErrClosed
	case online == nil:
		return nil, nil, ErrDisconnected
	}
	ctx, expire := context.WithTimeout(ctx, limit)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(online, func() { cancel(ErrDisconnected) })
	return ctx, func() { stop(); cancel(nil); expire() }, nil
}

// Close stops fetching, lets handlers end, for 5 s at most, before it ends their contexts, and disconnects. What they did
// not settle is delivered again elsewhere. It may be called twice.
func (b *Bus) Close() {
	b.closing.Do(func() {
		b.end()
		impatience := time.AfterFunc(closeHandlerMax, b.drop)
		b.working.Wait()
		impatience.Stop()
		b.drop()
		b.conn.Close()
		<-b.closed
		b.disconnected(nil)
	})
}

// Connected tells whether a broker answers.
func (b *Bus) Connected() bool { return b.conn.IsConnected() }

// fault asks the hook of tests.
func (b *Bus) fault(point string) error {
	if b.config.Fault == nil {
		return nil
	}
	return b.config.Fault(point)
}
