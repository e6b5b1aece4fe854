package api

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/gofiber/fiber/v2"

	"lockstep/api/console"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// Bounds of the streams that tell how transfers go on. A stream ends before the balancer would cut it; the browser opens
// the next one by itself.
const (
	streamsMax     = 256
	streamMax      = 25 * time.Second
	streamPause    = 300 * time.Millisecond // between two looks, at first
	streamPauseMax = 2 * time.Second
	streamWriteMax = 5 * time.Second // for one message to leave
)

// stream tells a browser whenever something happens to a transfer, as server-sent events. Each event is the mark of the
// transfer's state; the page reads itself again when it has another one.
type stream struct {
	exchange *exchange // for who asks; the request itself is over when the stream is written
	conn     net.Conn
	id       ledger.TransferID
	missing  error
}

// getWalletEvents begins a stream. Where there is no room for one more, the page asks by itself from time to time.
func (x *exchange) getWalletEvents() error {
	id := ledger.TransferID(x.param("id"))
	s := &stream{exchange: x, id: id, missing: ledger.Refuse(ledger.TransferNotFound, "there is no transfer %s", id), conn: x.fiber.Context().Conn()}
	if !canonicalID(string(id)) {
		return s.missing
	}
	mark, finished, err := s.look(x.context())
	if err != nil {
		return err
	}
	x.set("Cache-Control", "no-store")
	x.set("X-Accel-Buffering", "no")
	x.set("Content-Type", "text/event-stream; charset=utf-8")
	if x.fiber.Method() == fiber.MethodHead {
		return nil
	}
	streams := x.server.streams
	if !streams.tryEnter() {
		return errFull
	}
	x.fiber.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer streams.leave()
		s.write(w, mark, finished)
	})
	return nil
}

// look reads how the transfer stands, where it is decided: a replica may not know yet. finished says that nothing will
// change any more.
func (s *stream) look(ctx context.Context) (mark string, finished bool, err error) {
	x := s.exchange
	ctx, cancel := context.WithTimeout(ctx, readWaitMax)
	defer cancel()
	_, err = x.server.deps.Store.Read(ctx, store.Consistency{Source: true}, func(ctx context.Context, q Queries) error {
		transfer, remittance, err := x.visibleTransfer(ctx, q, s.id, s.missing)
		if err != nil {
			return err
		}
		own, err := x.ownedOf(ctx, q, transfer)
		if err != nil {
			return err
		}
		shown := console.Writer{Zone: time.UTC, System: x.server.deps.System}.Transfer(transfer, remittance, own)
		mark, finished = shown.Mark, shown.Finished
		return nil
	})
	return mark, finished, unless(s.missing.(*ledger.Error), err) //nolint:errorlint // made as one
}

// write sends marks until nothing will change, the reader is gone, the node shuts down, or it is time for another stream.
// It uses nothing of the request, which fiber gives to others meanwhile.
func (s *stream) write(w *bufio.Writer, mark string, finished bool) {
	server := s.exchange.server
	deadline := time.Now().Add(streamMax)
	_, _ = fmt.Fprintf(w, "retry: 1000\n\n") // Flush tells
	for pause := streamPause; ; pause = min(pause*5/4, streamPauseMax) {
		_, _ = fmt.Fprintf(w, "data: %s\n\n", mark)
		_ = s.conn.SetWriteDeadline(time.Now().Add(streamWriteMax + streamPauseMax))
		if w.Flush() != nil || finished || server.draining.Load() || time.Now().After(deadline) {
			return
		}
		time.Sleep(pause)
		again, ended, err := s.look(context.Background())
		if err == nil { // else the last one stands; the page asks again
			mark, finished = again, ended
		}
	}
}
