package store

import "time"

// OutboxRow is what one transaction has to tell one destination. It is written in that transaction and published after
// it: never announced and rolled back, never committed and forgotten.
type OutboxRow struct {
	ID          string // UUIDv7
	Destination string // a system's id, or "events" for the system's own listeners
	Events      []byte // JSON
	CreatedAt   time.Time
}

// InsertOutbox queues a row for the publisher.
func InsertOutbox(tx *Tx, row OutboxRow) {
	tx.queue("INSERT INTO outbox (id, destination, events, created_at) VALUES (?, ?, ?, ?)",
		row.ID, row.Destination, row.Events, row.CreatedAt)
}
