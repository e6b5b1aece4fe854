package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// wire is one HTTP/1.1 connection that does as little as a client can, for it shares the machine with what it measures:
// a request is bytes that the caller has put together, and of an answer only the status and the length are read. It
// dials when it is first used, and again after an error. Not safe for two goroutines.
type wire struct {
	address string // host:port
	timeout time.Duration
	conn    net.Conn
	reader  *bufio.Reader
	body    []byte

	cookies []string // those of the next answers are added, when this is not nil
}

// answerMax is how long a wire waits for an answer unless told otherwise: longer than a node lets a request wait.
const answerMax = 10 * time.Second

func newWire(address string) *wire { return &wire{address: address, timeout: answerMax} }

// errMalformed is an answer that is no HTTP with a Content-Length.
var errMalformed = errors.New("malformed answer")

// call sends a whole request and returns the answer; body is good until the next call. After an error the connection is
// closed, and whether the request had an effect is unknown.
func (w *wire) call(request []byte) (status int, body []byte, err error) {
	if w.conn == nil {
		dialer := net.Dialer{Timeout: w.timeout}
		if w.conn, err = dialer.DialContext(context.Background(), "tcp", w.address); err != nil {
			return 0, nil, fmt.Errorf("reach %s: %w", w.address, err)
		}
		w.reader = bufio.NewReader(w.conn)
	}
	_ = w.conn.SetDeadline(time.Now().Add(w.timeout)) // fails on a closed connection only, as the write does
	if _, err = w.conn.Write(request); err == nil {
		status, err = w.read()
	}
	if err != nil {
		w.close()
		return 0, nil, fmt.Errorf("ask %s: %w", w.address, err)
	}
	return status, w.body, nil
}

// read takes one answer from the connection.
func (w *wire) read() (status int, err error) {
	line, err := w.reader.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	const statusFrom, statusTo = len("HTTP/1.1 "), len("HTTP/1.1 200")
	if len(line) < statusTo || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, errMalformed
	}
	if status, err = strconv.Atoi(string(line[statusFrom:statusTo])); err != nil {
		return 0, errMalformed
	}
	length, last := 0, false
	for {
		if line, err = w.reader.ReadSlice('\n'); err != nil {
			return 0, err
		}
		name, value, named := bytes.Cut(line, []byte(":"))
		if !named {
			break // the empty line
		}
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, errMalformed
			}
		case bytes.EqualFold(name, []byte("Connection")):
			last = bytes.EqualFold(bytes.TrimSpace(value), []byte("close"))
		case w.cookies != nil && bytes.EqualFold(name, []byte("Set-Cookie")):
			cookie, _, _ := bytes.Cut(bytes.TrimSpace(value), []byte(";"))
			w.cookies = append(w.cookies, string(cookie))
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			return 0, errMalformed // the nodes never send in chunks
		}
	}
	w.body = append(w.body[:0], make([]byte, length)...)
	_, err = io.ReadFull(w.reader, w.body)
	if last && err == nil {
		w.close()
	}
	return status, err
}

func (w *wire) close() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}
