// Package events carries messages between payment systems over NATS JetStream, and those
// that a system tells about itself.
//
// A message arrives at least once: it is acknowledged to its sender when it is on the
// broker's disk, and to the broker when its handler is done with it. What a handler cannot
// take now comes again, later and later; what it can never take is kept as a dead letter,
// to be looked at, replayed or settled. The package knows neither money nor signatures.
//
// DESIGN.md tells how a message travels and what the package leaves out.
package events

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	// ErrUnavailable says that the broker did not acknowledge in time, or cannot be reached. A message may have arrived all
	// the same: publish it again with the same ID.
	ErrUnavailable = errors.New("event broker unavailable")

	// ErrDisconnected is ErrUnavailable while there is no connection to a broker, or because it ended before the answer came.
	ErrDisconnected = fmt.Errorf("%w: not connected", ErrUnavailable)

	// ErrRefused says that a message can never be published as it is.
	ErrRefused = errors.New("event message refused")

	// ErrNoLetter says that there is no dead letter of that id, or no more.
	ErrNoLetter = errors.New("no such dead letter")

	// ErrClosed says that the Bus is closed.
	ErrClosed = errors.New("event bus is closed")
)

const (
	// dataMax in bytes bounds the data of one message; brokers take twice that.
	dataMax = 1 << 20

	// headersMax in bytes is left for the headers of a message above its data.
	headersMax = 64 << 10
)

// Config says who speaks to which broker, and how patiently.
type Config struct {
	URL            string // nats://host:port, several separated by commas
	User, Password string
	TLS            *tls.Config // nil is in clear

	System string // the own payment system, whose streams the Bus makes and reads

	// Replicas of each stream: 1, or 3 with a cluster of three brokers.
	Replicas int

	// MaxAge is how long the broker keeps messages, dead letters among them. A message that nobody could take for so long is
	// gone, so a key that signed it must verify as long, and what hangs must be settled by asking the other system.
	MaxAge time.Duration

	// AckWait is how long one delivery may be in the hands of a handler. A message that was neither settled nor given back
	// until then is delivered again, so this is also the delay when a node dies with messages in hand.
	AckWait time.Duration

	// BackOff are the delays before the second delivery, the third, and so on; the last one is repeated. Each is changed by
	// up to a fifth either way, so that what failed together does not come back together.
	BackOff []time.Duration

	// MaxDeliver is how often a message is delivered at most before it becomes a dead letter.
	MaxDeliver int

	// PublishWait bounds one publication and its acknowledgement.
	PublishWait time.Duration

	// Fault, if set, is called at named points; an error from it stands for a crash there. For tests.
	Fault func(point string) error

	Log *slog.Logger // nil discards
}

// The points at which Config.Fault is called.
const (
	FaultBeforePublish = "publish.before" // nothing was sent
	FaultAfterPublish  = "publish.after"  // acknowledged, and the publisher does not hear it
	FaultBeforeAck     = "ack.before"     // handled, and the broker does not hear it
	FaultAfterAck      = "ack.after"      // settled, and the consumer does not hear it
)

// Default returns what suits brokers nearby. URL, User, Password and System are the caller's to fill in.
func Default() Config {
	return Config{
		Replicas: 1, MaxAge: 7 * 24 * time.Hour, AckWait: 30 * time.Second, PublishWait: 5 * time.Second, MaxDeliver: 25,
		BackOff: []time.Duration{
			time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
		},
	}
}

// Validate refuses a configuration that could not work, and names the field.
func (c Config) Validate() error {
	switch {
	case c.URL == "":
		return errors.New("URL of the event broker: must be set")
	case !regexp.MustCompile(`^[a-z][a-z0-9]{1,15}$`).MatchString(c.System):
		return fmt.Errorf("system %q of the events: must be 2 to 16 small letters and digits, a letter first", c.System)
	case c.Replicas != 1 && c.Replicas != 3 && c.Replicas != 5:
		return fmt.Errorf("replicas %d of the event streams: must be 1, 3 or 5", c.Replicas)
	case c.MaxAge < duplicateWindow:
		return fmt.Errorf("max age %v of events: must be at least %v", c.MaxAge, duplicateWindow)
	case c.AckWait < 100*time.Millisecond || c.AckWait > c.MaxAge:
		return fmt.Errorf("ack wait %v of events: must be 100ms to the max age", c.AckWait)
	case c.PublishWait < 10*time.Millisecond || c.PublishWait > duplicateWindow/2:
		return fmt.Errorf("publish wait %v of events: must be 10ms to %v", c.PublishWait, duplicateWindow/2)
	case c.MaxDeliver < 1:
		return fmt.Errorf("max deliver %d of events: must be at least 1", c.MaxDeliver)
	case len(c.BackOff) == 0 || slices.Min(c.BackOff) <= 0:
		return errors.New("back-off of events: must hold delays above 0")
	}
	return nil
}

// Message is something to publish.
type Message struct {
	// Subject is lockstep.<own system>.<to>.transfer.<what> or lockstep.<own system>.events.<what>.
	Subject string

	// ID makes repeats within two minutes harmless: the broker drops a second message with it. Later repeats arrive, so
	// whoever handles messages tells repeats apart by itself.
	ID string

	Data []byte // at most 1 MiB

	// Headers travel along, such as traceparent and tracestate of W3C Trace Context.
	Headers map[string]string
}

// Delivery is a message in the hands of a handler.
type Delivery struct {
	Subject   string // the one it was first published on, also after a replay
	ID        string // as its sender gave it, also after a replay
	Data      []byte
	Headers   map[string]string
	Delivered int       // how often it has been delivered, this time included
	Sequence  uint64    // its place in the stream; begins again in a stream that was made anew
	At        time.Time // when the broker took it
	Replayed  bool      // a dead letter that somebody replayed
}

// From is the system that the subject names as the sender. The broker lets a system publish under its own name only; a
// signature is still the only proof.
func (d Delivery) From() string { return token(d.Subject, 1) }

// token is the place-th word of a subject, counted from 0, or nothing.
func token(subject string, place int) string {
	tokens := strings.Split(subject, ".")
	if place >= len(tokens) {
		return ""
	}
	return tokens[place]
}

// Transfer is the subject of what one system tells another of a transfer: committed, aborted or credited.
func Transfer(from, to, what string) string {
	return "lockstep." + from + "." + to + ".transfer." + what
}

// Own is the subject of what a system tells about itself, such as account.opened.
func Own(system, what string) string { return "lockstep." + system + ".events." + what }

// Verdict is what a handler makes of a delivery: Done, Later or Dead. The zero value is Later without a reason.
type Verdict struct {
	kind   verdict
	reason string
}

type verdict uint8

const (
	later verdict = iota
	done
	dead
)

// Done says that the effect of the message is committed.
func Done() Verdict { return Verdict{kind: done} }

// Later says that the message could not be handled now, and is to come again. The last of MaxDeliver deliveries makes it
// a dead letter with this error as the reason.
func Later(err error) Verdict { return Verdict{kind: later, reason: fmt.Sprint(err)} }

// Dead says that the message can never be handled: a bad form or signature, or a conflict.
func Dead(reason string) Verdict { return Verdict{kind: dead, reason: reason} }
