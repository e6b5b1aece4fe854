package events

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Publish returns nil when the broker has the message on disk, in the stream of its receiver. Else it is ErrRefused, for a
// message that cannot be published at all, or ErrUnavailable, after which the message may be there or not; of that
// ErrDisconnected is the part that no message is to blame for. It waits for PublishWait at most, and for nothing without a
// connection.
func (b *Bus) Publish(ctx context.Context, m Message) error {
	stream, err := b.destination(m)
	if err != nil {
		return err
	}
	if err := b.fault(FaultBeforePublish); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	message := &nats.Msg{Subject: m.Subject, Data: m.Data, Header: nats.Header{}}
	for name, value := range m.Headers {
		message.Header.Set(name, value)
	}
	if err := b.send(ctx, message, stream, m.ID); err != nil {
		return err
	}
	b.counters.published.Add(1)
	if err := b.fault(FaultAfterPublish); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// destination is the stream that has to acknowledge the message.
func (b *Bus) destination(m Message) (string, error) {
	own := b.config.System
	switch tokens := strings.Split(m.Subject, "."); {
	case m.ID == "":
		return "", fmt.Errorf("%w: it has no ID", ErrRefused)
	case len(m.Data) > dataMax:
		return "", fmt.Errorf("%w: %d bytes are more than %d", ErrRefused, len(m.Data), dataMax)
	case strings.ContainsAny(m.Subject, "*> \t\r\n"):
		return "", fmt.Errorf("%w: subject %q is a pattern", ErrRefused, m.Subject)
	case len(tokens) > 3 && strings.HasPrefix(m.Subject, Own(own, "")): // first: transfer.posted would look like a transfer to `events`
		return ownEvents(own), nil
	case len(tokens) == 5 && m.Subject == Transfer(own, tokens[2], tokens[4]):
		return inbound(tokens[2]), nil
	}
	return "", fmt.Errorf("%w: subject %q is not one of %s", ErrRefused, m.Subject, b.config.System)
}

// send waits until the broker has the message. The name of the stream guards against another one that listens on the
// subject: its acknowledgement would mean nothing.
func (b *Bus) send(ctx context.Context, m *nats.Msg, stream, id string) error {
	ctx, cancel, err := b.bound(ctx, b.config.PublishWait)
	if err != nil {
		return err
	}
	defer cancel()
	options := []jetstream.PublishOpt{jetstream.WithExpectStream(stream), jetstream.WithRetryAttempts(0)}
	if id != "" {
		options = append(options, jetstream.WithMsgID(id))
	}
	_, err = b.js.PublishMsg(ctx, m, options...)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadHeaderMsg):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case !b.Connected() || errors.Is(context.Cause(ctx), ErrDisconnected):
		return fmt.Errorf("%w: publish to %s: %w", ErrDisconnected, stream, err)
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		b.lookAfter() // the stream may be ours
	}
	return fmt.Errorf("%w: publish to %s: %w", ErrUnavailable, stream, err)
}
