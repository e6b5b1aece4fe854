package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// The headers of dead letters and replays.
const (
	headerPrefix    = "Lockstep-"
	headerSubject   = headerPrefix + "Subject" // on which the message was first published
	headerID        = headerPrefix + "Id"      // as its sender gave it
	headerReason    = headerPrefix + "Reason"
	headerDelivered = headerPrefix + "Delivered"
	headerEvent     = headerPrefix + "Event" // the id of the one event that was parked
)

const (
	reasonMax  = 1024 // bytes
	lettersMax = 1000 // of one listing
	askMax     = 10 * time.Second
)

// DeadLetter is a message, or one event of a batch, that could not be handled.
type DeadLetter struct {
	ID        string // of the letter: the same whenever the same message dies again
	Subject   string // on which the message was published
	MessageID string // as its sender gave it
	EventID   string // of the event, if only one of a batch is here
	Data      []byte
	Headers   map[string]string
	Reason    string
	Delivered int // how often it was delivered
	At        time.Time

	sequence uint64
}

// Park puts one event of a delivery into the dead letters, so that the others of its batch can be done. It returns when the
// broker has it on disk; on an error the verdict for the delivery has to be Later. Parking the same event again replaces it.
func (b *Bus) Park(ctx context.Context, d Delivery, event Event, reason string) error {
	data := []byte(event.Raw)
	if packed, err := Pack([]Event{event}); err == nil {
		data = packed
	}
	of := letterID(d, event.Source, event.ID)
	if event.ID == "" {
		of = letterID(d, "", string(data)) // without a name it is known by its contents
	}
	d.Data = data
	return b.mail(ctx, d, of, event.ID, reason)
}

// bury keeps a message that is given up, and only then tells the broker not to deliver it any more.
func (b *Bus) bury(message jetstream.Msg, d Delivery, reason string) {
	if err := b.mail(b.hands, d, letterID(d, "", ""), "", reason); err != nil {
		b.log.Warn("dead event not kept yet: it comes again", "subject", d.Subject, "id", d.ID, "error", err)
		b.giveBack(message, b.config.delay(d.Delivered))
		return
	}
	if err := message.TermWithReason("dead letter"); err != nil {
		b.log.Warn("dead event comes again", "subject", d.Subject, "id", d.ID, "error", err)
	}
}

// mail writes a letter. It carries no message id: the broker would drop a second death within two minutes of a replay.
func (b *Bus) mail(ctx context.Context, d Delivery, id, event, reason string) error {
	m := &nats.Msg{Subject: letterAt(b.config.System, id), Data: d.Data, Header: nats.Header{}}
	for name, value := range d.Headers {
		m.Header.Set(name, value)
	}
	m.Header.Set(headerSubject, d.Subject)
	m.Header.Set(headerID, d.ID)
	m.Header.Set(headerReason, reason[:min(len(reason), reasonMax)])
	m.Header.Set(headerDelivered, strconv.Itoa(d.Delivered))
	if event != "" {
		m.Header.Set(headerEvent, event)
	}
	if err := b.send(ctx, m, graveyard(b.config.System), ""); err != nil {
		return err
	}
	b.counters.dead.Add(1)
	b.log.Warn("event is a dead letter", "letter", id, "subject", d.Subject, "id", d.ID, "event", event, "reason", reason)
	return nil
}

// letterID is a word of a subject that the same message, or event, always gets.
func letterID(d Delivery, source, event string) string {
	message := d.ID
	if message == "" { // whoever sent it left it out
		message = strconv.FormatUint(d.Sequence, 10) + " " + d.At.UTC().Format(time.RFC3339Nano)
	}
	const bytesUsed = 16
	sum := sha256.Sum256([]byte(strings.Join([]string{d.Subject, message, source, event}, "\x00")))
	return hex.EncodeToString(sum[:bytesUsed])
}

// DeadLetters lists the oldest dead letters, at most limit and at most 1000. Letters that are moved meanwhile may be missed.
func (b *Bus) DeadLetters(ctx context.Context, limit int) ([]DeadLetter, error) {
	ctx, cancel, err := b.bound(ctx, askMax)
	if err != nil {
		return nil, err
	}
	defer cancel()
	stream, err := b.graves(ctx)
	if err != nil {
		return nil, err
	}
	var letters []DeadLetter
	all := letterAt(b.config.System, "*")
	for next := uint64(1); len(letters) < min(limit, lettersMax); {
		message, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(all))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return letters, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: read dead letters: %w", ErrUnavailable, err)
		}
		letters = append(letters, letter(message))
		next = message.Sequence + 1
	}
	return letters, nil
}

// Replay sends a dead letter to the system's handler again, as if it had just come, and removes it. Should the handler give
// it up again, it is a dead letter under the same id. ErrNoLetter tells that it is gone already.
func (b *Bus) Replay(ctx context.Context, id string) error {
	ctx, cancel, err := b.bound(ctx, askMax)
	if err != nil {
		return err
	}
	defer cancel()
	stream, found, err := b.find(ctx, id)
	if err != nil {
		return err
	}
	m := &nats.Msg{Subject: replayAt(b.config.System, id), Data: found.Data, Header: nats.Header{}}
	for name, value := range found.Headers {
		m.Header.Set(name, value)
	}
	m.Header.Set(headerSubject, found.Subject)
	m.Header.Set(headerID, found.MessageID)
	if err := b.send(ctx, m, inbound(b.config.System), "replay-"+nuid.Next()); err != nil {
		return err
	}
	return remove(ctx, stream, found)
}

// Settle removes a dead letter whose matter is settled otherwise. ErrNoLetter tells that it is gone already.
func (b *Bus) Settle(ctx context.Context, id string) error {
	ctx, cancel, err := b.bound(ctx, askMax)
	if err != nil {
		return err
	}
	defer cancel()
	stream, found, err := b.find(ctx, id)
	if err != nil {
		return err
	}
	return remove(ctx, stream, found)
}

func (b *Bus) graves(ctx context.Context) (jetstream.Stream, error) {
	stream, err := b.js.Stream(ctx, graveyard(b.config.System))
	if err != nil {
		b.lookAfter()
		return nil, fmt.Errorf("%w: look for dead letters: %w", ErrUnavailable, err)
	}
	return stream, nil
}

func (b *Bus) find(ctx context.Context, id string) (jetstream.Stream, DeadLetter, error) {
	if id == "" || strings.ContainsAny(id, ".*> \t\r\n") {
		return nil, DeadLetter{}, ErrNoLetter
	}
	stream, err := b.graves(ctx)
	if err != nil {
		return nil, DeadLetter{}, err
	}
	message, err := stream.GetLastMsgForSubject(ctx, letterAt(b.config.System, id))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, DeadLetter{}, ErrNoLetter
	}
	if err != nil {
		return nil, DeadLetter{}, fmt.Errorf("%w: read dead letter %s: %w", ErrUnavailable, id, err)
	}
	return stream, letter(message), nil
}

// remove takes away this very copy: one that died again meanwhile stays. The broker refuses to remove what is not there in
// words only, so then it is asked.
func remove(ctx context.Context, stream jetstream.Stream, l DeadLetter) error {
	err := stream.DeleteMsg(ctx, l.sequence)
	if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		if _, missing := stream.GetMsg(ctx, l.sequence); errors.Is(missing, jetstream.ErrMsgNotFound) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("%w: remove dead letter %s: %w", ErrUnavailable, l.ID, err)
	}
	return nil
}

func letter(message *jetstream.RawStreamMsg) DeadLetter {
	delivered, _ := strconv.Atoi(message.Header.Get(headerDelivered)) // 0 for what is no number
	return DeadLetter{
		ID: token(message.Subject, 3), Subject: message.Header.Get(headerSubject), MessageID: message.Header.Get(headerID),
		EventID: message.Header.Get(headerEvent), Data: message.Data, Headers: passed(message.Header),
		Reason: message.Header.Get(headerReason), Delivered: delivered, At: message.Time, sequence: message.Sequence,
	}
}

// passed are the headers that travel with a message through death and replay: not the broker's, not ours.
func passed(header nats.Header) map[string]string {
	all := map[string]string{}
	for name := range header {
		if !strings.HasPrefix(name, "Nats-") && !strings.HasPrefix(name, headerPrefix) {
			all[name] = header.Get(name)
		}
	}
	return all
}
