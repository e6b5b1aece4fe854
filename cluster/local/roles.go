package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// standing is which of a system's MariaDB servers is the source, by their names below the system's directory. It is kept in
// the file roles.json there, since a promotion holds for good.
type standing struct {
	Source       string         `json:"source"`
	Promoting    bool           `json:"promoting,omitempty"`    // it is chosen, and takes no writes yet
	Unreconciled bool           `json:"unreconciled,omitempty"` // 'lockstep reconcile' has to be run
	Apart        []string       `json:"apart,omitempty"`        // were the source, and replicate from nobody
	Rebuilt      map[string]int `json:"rebuilt,omitempty"`      // how often a server began anew
}

// roles guard the standing.
type roles struct {
	path string

	mu  sync.Mutex
	now standing
}

// loadRoles reads the roles, which the first start of a system makes.
func loadRoles(dir, source string) (*roles, error) {
	r := &roles{path: filepath.Join(dir, "roles.json"), now: standing{Source: source}}
	text, err := os.ReadFile(r.path)
	if err == nil {
		err = json.Unmarshal(text, &r.now)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read which server is the source: %w", err)
	}
	return r, nil
}

// get copies the standing.
func (r *roles) get() standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now
	now.Apart = slices.Clone(now.Apart)
	return now
}

// change writes the standing before anybody acts on it.
func (r *roles) change(change func(*standing)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.now
	next.Apart = slices.Clone(next.Apart)
	change(&next)
	if err := writePrivate(r.path, next); err != nil {
		return err
	}
	r.now = next
	return nil
}

func (n standing) apart(name string) bool { return slices.Contains(n.Apart, name) }

// rejoins is what a server that was apart does.
func (n *standing) rejoins(name string) {
	n.Apart = slices.DeleteFunc(n.Apart, func(other string) bool { return other == name })
}
