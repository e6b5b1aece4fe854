package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	readyMax  = 10 * time.Second // for the listener, after the streams were read
	readyLook = 100 * time.Millisecond
)

// Broker is a server that runs until Close.
type Broker struct {
	server  *server.Server
	closing sync.Once
}

// Open starts a server and returns when it serves. Streams of an earlier run in the same
// directory are there again.
func Open(config Config, log *slog.Logger) (*Broker, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configuration of the broker: %w", err)
	}
	if err := os.MkdirAll(config.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the store's directory: %w", err)
	}
	options, err := config.Options()
	if err != nil {
		return nil, err
	}
	if !options.SyncAlways {
		panic("broker: a server that does not sync what it acknowledges") // the option has changed its name
	}
	nats, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("make the server: %w", err)
	}
	told := &logger{log: log}
	nats.SetLoggerV2(told, false, false, false)
	b := &Broker{server: nats}
	nats.Start()
	for end := time.Now().Add(readyMax); !nats.ReadyForConnections(readyLook); {
		if err := told.failure(time.Now().After(end)); err != nil {
			b.Close()
			return nil, fmt.Errorf("start the server: %w", err)
		}
	}
	log.Info("broker serves", "url", b.URL(), "store", config.StoreDir, "systems", len(config.Systems))
	return b, nil
}

// URL is where clients connect, without user and password.
func (b *Broker) URL() string { return b.server.ClientURL() }

// Close ends the server in good order: clients are told, streams are written. It may be
// called twice.
func (b *Broker) Close() {
	b.closing.Do(func() {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	})
}

// logger passes on what the server says, and keeps why it gave up.
type logger struct {
	log *slog.Logger

	mu    sync.Mutex
	fatal error
}

var errNotReady = errors.New("it did not become ready in time")

// failure is why the server is not ready and will not be.
func (l *logger) failure(late bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal == nil && late {
		return errNotReady
	}
	return l.fatal
}

func (l *logger) Noticef(format string, v ...any) { l.log.Info(fmt.Sprintf(format, v...)) }
func (l *logger) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l *logger) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *logger) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *logger) Tracef(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }

func (l *logger) Fatalf(format string, v ...any) {
	err := fmt.Errorf(format, v...)
	l.mu.Lock()
	l.fatal = err
	l.mu.Unlock()
	l.log.Error(err.Error())
}
