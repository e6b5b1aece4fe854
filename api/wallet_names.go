package api

import (
	"context"
	"sync"
	"time"
)

// Bounds of what is remembered of people's names, and of the time that a page waits for one.
const (
	namesMax     = 10_000
	nameFreshFor = time.Minute
	nameWaitMax  = 500 * time.Millisecond
)

// names remembers how people are called, so that a page needs neither one more read of the source nor the source at all:
// pages go on from replicas while it is away. It is safe for concurrent use.
type names struct {
	mu   sync.Mutex
	byID map[string]knownName
}

type knownName struct {
	name  string
	until time.Time
}

// get is a person's name as it was a minute ago at most, or, while it cannot be read, as it was last known, or the id.
func (n *names) get(ctx context.Context, deps Deps, id string) string {
	n.mu.Lock()
	known, there := n.byID[id]
	n.mu.Unlock()
	if there && deps.Clock().Before(known.until) {
		return known.name
	}
	ctx, cancel := context.WithTimeout(ctx, nameWaitMax)
	defer cancel()
	user, err := deps.People.User(ctx, id)
	switch {
	case err == nil:
		known = knownName{name: id}
		for _, name := range []string{user.Email, user.Username, user.Name} { // the last one that is there
			if name != "" {
				known.name = name
			}
		}
	case !there:
		known = knownName{name: id}
	}
	known.until = deps.Clock().Add(nameFreshFor)
	n.put(id, known)
	return known.name
}

// put makes room by forgetting any other name when full: it is read again, nothing else.
func (n *names) put(id string, known knownName) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.byID) >= namesMax {
		for other := range n.byID {
			delete(n.byID, other)
			break
		}
	}
	n.byID[id] = known
}
