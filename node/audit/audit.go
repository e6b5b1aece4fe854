// Package audit keeps a record of who did what, to what and from where, in blocks that are chained by their hashes, so that
// a record which was changed, taken out or put in is seen (`lockstep verify`).
//
// The records of a moment leave together, four times a second, on a connection that no payment uses: a payment adds a line
// to a buffer and goes on. What must not be answered before its record is stored asks for that with Sync.
package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Record is one thing that somebody did, or was refused.
type Record struct {
	At      time.Time `json:"at"`
	Who     string    `json:"who,omitempty"` // the principal; empty: nobody who is known
	What    string    `json:"what"`          // the route
	On      string    `json:"on,omitempty"`  // the thing that it was about, by its path
	From    string    `json:"from"`          // the address
	Status  int       `json:"status"`
	Request string    `json:"request"` // the request's id, which answers and logs have
}

// Bounds of what waits and of what is written at a time.
const (
	blockBytes   = 256 << 10 // of a block; the next record begins another
	waitingBytes = 16 << 20  // of records that wait for the database; more are counted and lost
	writeEvery   = 250 * time.Millisecond
	writeTimeout = 5 * time.Second
	retryPause   = 500 * time.Millisecond
)

// Log takes records and writes them. It is safe for many goroutines.
type Log struct {
	db     *sql.DB
	node   int
	logger *slog.Logger

	mu      sync.Mutex
	waiting *bytes.Buffer
	entries int
	stored  chan struct{} // closed when all that waits now is stored, or given up at the end
	soon    chan struct{} // somebody waits for that

	stop    context.CancelFunc
	done    chan struct{}
	written atomic.Uint64
	lost    atomic.Uint64
}

// Open begins to write into the database. Node is this node's number.
func Open(ctx context.Context, db *sql.DB, node int, logger *slog.Logger) *Log {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &Log{
		db: db, node: node, logger: logger, waiting: &bytes.Buffer{}, stored: make(chan struct{}), soon: make(chan struct{}, 1),
		stop: stop, done: make(chan struct{}),
	}
	go l.run(background)
	return l
}

// Close writes what waits, once, and ends.
func (l *Log) Close(context.Context) error {
	l.stop()
	<-l.done
	return nil
}

// Stats counts the records that were written, and those that were lost because too many waited.
func (l *Log) Stats() (written, lost uint64) { return l.written.Load(), l.lost.Load() }

// Add takes a record. It never waits: when too many do, the record is counted and lost, and Add says so.
func (l *Log) Add(r Record) (kept bool) {
	line, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("audit: marshal a record: %v", err)) // texts, a number and a time always marshal
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting.Len()+len(line) >= waitingBytes {
		l.lost.Add(1)
		return false
	}
	l.waiting.Write(line)
	l.waiting.WriteByte('\n')
	l.entries++
	return true
}

// Sync waits until all records that were added before are stored, or ctx ends.
func (l *Log) Sync(ctx context.Context) error {
	l.mu.Lock()
	stored, empty := l.stored, l.entries == 0
	l.mu.Unlock()
	if empty {
		return nil
	}
	select {
	case l.soon <- struct{}{}:
	default:
	}
	select {
	case <-stored:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("audit: the record is not stored yet: %w", ctx.Err())
	}
}

func (l *Log) run(ctx context.Context) {
	defer close(l.done)
	ticker := time.NewTicker(writeEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-l.soon:
		case <-ticker.C:
		}
		l.write(ctx)
	}
	l.write(ctx) // what came while the last block was written
}

// write stores all that waits now, block by block.
func (l *Log) write(ctx context.Context) {
	l.mu.Lock()
	text, stored := l.waiting.Bytes(), l.stored
	if l.entries == 0 {
		l.mu.Unlock()
		return
	}
	l.waiting, l.entries, l.stored = &bytes.Buffer{}, 0, make(chan struct{})
	l.mu.Unlock()
	defer close(stored)
	for len(text) > 0 {
		end := len(text)
		if end > blockBytes {
			end = bytes.LastIndexByte(text[:blockBytes], '\n') + 1 // a record is far shorter than a block
		}
		l.store(ctx, text[:end])
		text = text[end:]
	}
}

// store writes a block, and tries until it is written or the log is closed, whose last try is without ctx.
func (l *Log) store(ctx context.Context, records []byte) {
	b := block{records: records}
	for {
		err := l.try(&b)
		if err == nil {
			l.written.Add(uint64(bytes.Count(records, []byte{'\n'})))
			return
		}
		l.logger.Warn("an audit block could not be written", "error", err)
		select {
		case <-ctx.Done():
			l.lost.Add(uint64(bytes.Count(records, []byte{'\n'})))
			l.logger.Error("audit records are lost, because this node ends", "records", string(records))
			return
		case <-time.After(retryPause):
		}
	}
}

// block is on its way into the chain.
type block struct {
	records  []byte
	sequence int64 // 0 while it has no place
	previous []byte
	hash     []byte
}

// seal gives the block its place behind another.
func (b *block) seal(sequence int64, previous []byte) {
	b.sequence, b.previous, b.hash = sequence, previous, Hash(previous, sequence, b.records)
}

// Hash is what a block is recognised by: SHA-256 over the hash before it, its place in decimal, a line break and its
// records.
func Hash(previous []byte, sequence int64, records []byte) []byte {
	h := sha256.New()
	h.Write(previous)
	h.Write(strconv.AppendInt(nil, sequence, 10))
	h.Write([]byte{'\n'})
	h.Write(records)
	return h.Sum(nil)
}

// errOvertaken says that the block has to find another place.
var errOvertaken = errors.New("audit: another node's block has the place")

// overtakenMax bounds how often in a row that may happen.
const overtakenMax = 50

// try puts the block at the end of the chain. The primary key lets one block have a place. A block whose COMMIT got no
// answer tries the same place again: it waits there for its own row, if there is one, and finds it.
func (l *Log) try(b *block) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	for range overtakenMax {
		err := l.place(ctx, b)
		if !errors.Is(err, errOvertaken) {
			return err
		}
	}
	return errOvertaken
}

func (l *Log) place(ctx context.Context, b *block) error {
	last, hash, err := l.last(ctx)
	if err != nil {
		return err
	}
	switch {
	case b.sequence == 0 || last < b.sequence-1:
		b.seal(last+1, hash)
	case last == b.sequence-1 && !bytes.Equal(hash, b.previous):
		b.seal(last+1, hash)
	case last >= b.sequence:
		stands, err := l.stands(ctx, b)
		if err != nil || stands {
			return err
		}
		b.seal(last+1, hash)
	}
	return l.insert(ctx, b)
}

// last is the end of the chain; before the first block the hash is all zeros.
func (l *Log) last(ctx context.Context) (sequence int64, hash []byte, err error) {
	err = l.db.QueryRowContext(ctx, `SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1`).Scan(&sequence, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, make([]byte, sha256.Size), nil
	}
	if err != nil {
		return 0, nil, fmt.Errorf("read the end of the chain: %w", err)
	}
	return sequence, hash, nil
}

func (l *Log) stands(ctx context.Context, b *block) (bool, error) {
	var hash []byte
	if err := l.db.QueryRowContext(ctx, `SELECT hash FROM audit WHERE sequence = ?`, b.sequence).Scan(&hash); err != nil {
		return false, fmt.Errorf("look for the block: %w", err)
	}
	return bytes.Equal(hash, b.hash), nil
}

// insert writes the block, and that this node's chain reaches so far: who cuts the chain's end off has to know that too.
func (l *Log) insert(ctx context.Context, b *block) error {
	tx, err := l.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	_, err = tx.ExecContext(ctx, `INSERT INTO audit (sequence, entries, records, previous, hash) VALUES (?, ?, ?, ?, ?)`,
		b.sequence, bytes.Count(b.records, []byte{'\n'}), b.records, b.previous, b.hash)
	if duplicate(err) {
		return errOvertaken
	}
	if err != nil {
		return fmt.Errorf("insert the block: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO audit_heads (node, sequence, hash) VALUES (?, ?, ?)
		ON DUPLICATE KEY UPDATE sequence = VALUES(sequence), hash = VALUES(hash)`, l.node, b.sequence, b.hash)
	if err != nil {
		return fmt.Errorf("note the head: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit the block: %w", err)
	}
	return nil
}
