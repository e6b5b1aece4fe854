package chaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// Kind says what a client asked for.
type Kind string

// The kinds of operations.
const (
	Transfer Kind = "transfer" // inside one system
	Remit    Kind = "remit"    // to an account of another system
	Hold     Kind = "hold"
	Capture  Kind = "capture" // of the whole hold
	Void     Kind = "void"
	Read     Kind = "read"   // of one account, at the source
	Survey   Kind = "survey" // of all accounts of a system at one moment
)

// moves tells whether an operation of this kind moves money when it is applied.
func (k Kind) moves() bool { return k == Transfer || k == Remit || k == Capture }

// reads tells whether an operation of this kind changes nothing.
func (k Kind) reads() bool { return k == Read || k == Survey }

// End is what became of an operation, as far as its client knows.
type End string

// The ends of an operation.
const (
	Applied    End = "applied"
	Refused    End = "refused"     // decided under the idempotency key: it did not happen and never will
	NotApplied End = "not_applied" // every answer said so, and the client left it at that
	Open       End = "open"        // nobody could say
)

// Balance is what an account has, in minor units.
type Balance struct {
	Posted int64 `json:"posted"`
	Held   int64 `json:"held"`
}

// Op is one operation of a client, from its first request to its last answer. Times count from the start of the load.
type Op struct {
	Client    int                `json:"client"`
	System    string             `json:"system"`
	Kind      Kind               `json:"kind"`
	From      string             `json:"from,omitempty"`
	To        string             `json:"to,omitempty"`
	Amount    int64              `json:"amount,omitempty"`
	Hold      string             `json:"hold,omitempty"`      // the id of the hold that it made or ended
	Reference string             `json:"reference,omitempty"` // its idempotency key, and what a transfer carries
	ID        string             `json:"id,omitempty"`        // of the transfer, from the answer
	Call      time.Duration      `json:"call_ns"`
	Return    time.Duration      `json:"return_ns"`
	End       End                `json:"end"`
	Strong    bool               `json:"strong,omitempty"`   // the read was of the source
	Balances  map[string]Balance `json:"balances,omitempty"` // what a read showed, by account
	Tries     []Try              `json:"tries"`
}

// Try is one request and its answer.
type Try struct {
	At     time.Duration `json:"at_ns"`
	Took   time.Duration `json:"took_ns"`
	To     string        `json:"to"`               // the address asked
	Status int           `json:"status,omitempty"` // 0: no answer
	Code   string        `json:"code,omitempty"`   // of a problem
	Error  string        `json:"error,omitempty"`  // why there was no answer
}

// recorder keeps all that clients asked and were told.
type recorder struct {
	began time.Time

	mu  sync.Mutex
	ops []Op
}

func (r *recorder) now() time.Duration { return time.Since(r.began) }

func (r *recorder) add(op Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
}

// since returns the operations that were added after the first n.
func (r *recorder) since(n int) []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ops[n:len(r.ops):len(r.ops)]
}

// writeLines writes values as one line of JSON each.
func writeLines[T any](path string, values []T) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("keep the record: %w", err)
	}
	defer file.Close()
	out := bufio.NewWriter(file)
	encoder := json.NewEncoder(out)
	for _, value := range values {
		if err := encoder.Encode(value); err != nil {
			return fmt.Errorf("keep the record: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("keep the record: %w", err)
	}
	return nil
}
