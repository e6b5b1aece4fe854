package api_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// wire is a node's way to its database. What it does to one statement, or to the attempt to connect, the driver meets as
// it would on a bad network or at a bad server: in the protocol's own packets. It counts the errors that the server itself
// sends.
type wire struct {
	network string // by which the DSN names it

	mu      sync.Mutex
	trouble *trouble
	refusal error // of every attempt to connect
	conns   map[*wireConn]bool
	met     map[uint16]int // errors of the server, by number; hangUp is the end of a connection
	done    int            // troubles made
}

// trouble is what becomes of the statements of a batch that begin with these words.
type trouble struct {
	words   string
	arrives bool            // the server carries the statement out, and its answer is lost
	reply   func(*wireConn) // in place of the server's answer
	once    bool            // the next such statement only
	after   func()          // what happens next; nil is nothing
}

// hangUp stands among the error numbers for a server that ends the connection and says nothing.
const hangUp = 0

// The last write of a batch and its end.
const (
	lastWrite = "INSERT INTO transfers"
	endOfIt   = "COMMIT"
)

func newWire(tb testing.TB, name string) *wire {
	tb.Helper()
	w := &wire{network: name, conns: map[*wireConn]bool{}, met: map[uint16]int{}}
	mysql.RegisterDialContext(name, w.dial)
	tb.Cleanup(func() { mysql.DeregisterDialContext(name) })
	return w
}

// through makes a DSN use the wire.
func (w *wire) through(dsn string) string { return strings.Replace(dsn, "@tcp(", "@"+w.network+"(", 1) }

func (w *wire) dial(ctx context.Context, address string) (net.Conn, error) {
	w.mu.Lock()
	refusal := w.refusal
	w.mu.Unlock()
	if refusal != nil {
		return nil, refusal
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &wireConn{Conn: conn, wire: w}
	w.conns[c] = true
	return c, nil
}

// make arranges trouble.
func (w *wire) make(t trouble) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble = &t
}

// cut ends all connections and refuses new ones with the error; nil refuses none.
func (w *wire) cut(refusal error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refusal = refusal
	for c := range w.conns {
		c.severed.Store(true)
		_ = c.Conn.(*net.TCPConn).CloseRead()
		_ = c.Conn.(*net.TCPConn).CloseWrite()
	}
}

// heal ends all trouble.
func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble, w.refusal = nil, nil
}

func (w *wire) made() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

func (w *wire) meet(number uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.met[number]++
}

// seen counts how often the server sent an error.
func (w *wire) seen(number uint16) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.met[number]
}

// judge takes the trouble that a statement meets.
func (w *wire) judge(c *wireConn, statement string) *trouble {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.trouble
	if t == nil || !strings.HasPrefix(statement, t.words) || t.words == endOfIt && !c.inBatch {
		return nil
	}
	if t.once {
		w.trouble = nil
	}
	w.done++
	return t
}

// wireConn is one connection.
type wireConn struct {
	net.Conn
	wire    *wire
	severed atomic.Bool
	inBatch bool   // a batch has written on it and not ended
	reply   []byte // to be read before anything of the server's
	failure error  // what reading ends with after that
	heard   []byte // of the server, up to the next whole packet
}

// statementOf is the text of a query that begins in this packet; "" when none does.
func statementOf(packet []byte) string {
	const header, query = 4, 3
	if len(packet) <= header || packet[3] != 0 || packet[header] != query {
		return ""
	}
	return string(packet[header+1:])
}

// Write implements net.Conn. The driver writes each packet in one go.
func (c *wireConn) Write(packet []byte) (int, error) {
	statement := statementOf(packet)
	t := c.wire.judge(c, statement)
	switch {
	case strings.HasPrefix(statement, lastWrite):
		c.inBatch = true
	case strings.HasPrefix(statement, endOfIt), strings.HasPrefix(statement, "ROLLBACK"):
		c.inBatch = false
	}
	if t == nil {
		n, err := c.Conn.Write(packet)
		if quit := len(packet) == 5 && packet[4] == 1; quit {
			return len(packet), nil // a server that cannot be told so any more is no error
		}
		return n, err
	}
	if t.arrives {
		if _, err := c.Conn.Write(packet); err != nil {
			return 0, err
		}
		if err := c.swallow(); err != nil {
			return 0, err
		}
	}
	t.reply(c)
	if t.after != nil {
		t.after()
	}
	return len(packet), nil
}

// swallow reads the server's answer to statements that answer no rows. Of COMMIT it reads no more: whoever lost its answer
// uses the connection no longer.
func (c *wireConn) swallow() error {
	const ok, moreResults = 0, 8
	_ = c.Conn.SetReadDeadline(time.Now().Add(patience))
	for {
		header := make([]byte, 4)
		if _, err := io.ReadFull(c.Conn, header); err != nil {
			return err
		}
		payload := make([]byte, int(header[0])|int(header[1])<<8|int(header[2])<<16)
		if _, err := io.ReadFull(c.Conn, payload); err != nil {
			return err
		}
		if payload[0] != ok {
			return nil
		}
		rest := payload[1:]
		rest = rest[lengthOf(rest):] // rows
		rest = rest[lengthOf(rest):] // the last id
		if !c.inBatch || binary.LittleEndian.Uint16(rest)&moreResults == 0 {
			return nil
		}
	}
}

// lengthOf is the width of a length-encoded integer.
func lengthOf(text []byte) int {
	switch text[0] {
	case 0xfc:
		return 3
	case 0xfd:
		return 4
	case 0xfe:
		return 9
	}
	return 1
}

// Read implements net.Conn.
func (c *wireConn) Read(into []byte) (int, error) {
	if len(c.reply) > 0 {
		n := copy(into, c.reply)
		c.reply = c.reply[n:]
		return n, nil
	}
	if c.failure != nil {
		return 0, c.failure
	}
	n, err := c.Conn.Read(into)
	c.listen(into[:n])
	if !c.severed.Load() && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		c.wire.meet(hangUp)
	}
	return n, err
}

// listen counts the errors among what the server sends.
func (c *wireConn) listen(sent []byte) {
	const errorPacket = 0xff
	c.heard = append(c.heard, sent...)
	for len(c.heard) >= 4 {
		size := 4 + (int(c.heard[0]) | int(c.heard[1])<<8 | int(c.heard[2])<<16)
		if len(c.heard) < size {
			return
		}
		if payload := c.heard[4:size]; len(payload) > 3 && payload[0] == errorPacket {
			c.wire.meet(binary.LittleEndian.Uint16(payload[1:]))
		}
		c.heard = bytes.Clone(c.heard[size:])
	}
}

// Close implements net.Conn.
func (c *wireConn) Close() error {
	c.wire.mu.Lock()
	delete(c.wire.conns, c)
	c.wire.mu.Unlock()
	return c.Conn.Close()
}

// withError replies with the server's error packet of a number.
func withError(number uint16) func(*wireConn) {
	message := fmt.Sprintf("#HY000error %d, made by a test", number)
	payload := append(binary.LittleEndian.AppendUint16([]byte{0xff}, number), message...)
	return withBytes(append([]byte{byte(len(payload)), 0, 0, 1}, payload...))
}

// withBytes replies with what need not be an answer.
func withBytes(reply []byte) func(*wireConn) { return func(c *wireConn) { c.reply = reply } }

// withFailure ends the connection with what the network says.
func withFailure(failure error) func(*wireConn) { return func(c *wireConn) { c.failure = failure } }
