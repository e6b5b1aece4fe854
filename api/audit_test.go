package api_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/api"
	"lockstep/api/ratelimit"
	"lockstep/node/audit"
)

// deeds keeps audit records in memory, as long as it has room.
type deeds struct {
	mu   sync.Mutex
	full bool
	all  []audit.Record
}

func (d *deeds) Add(r audit.Record) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.full {
		d.all = append(d.all, r)
	}
	return !d.full
}

func (d *deeds) Sync(context.Context) error { return nil }

// recorded takes the records out.
func (d *deeds) recorded() []audit.Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.all
	d.all = nil
	return all
}

// Who is nobody can neither fill the audit log with long paths nor by asking again and again, and a record for which there is
// no room any more is at least missed in the node's log.
func TestStrangersDoNotFillTheAudit(t *testing.T) {
	t.Parallel()
	limiter, err := ratelimit.Open(ratelimit.Config{Prefix: "alpha", Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	kept := &deeds{}
	e := newEdge(t, func(d *api.Deps) {
		d.Audit = kept
		d.Limits = api.Limits{Limiter: limiter, Address: ratelimit.Limit{Rate: 1, Burst: 2}}
	})
	long := "/v1/accounts/" + strings.Repeat("&", 4000)
	e.do(t, "PATCH", long, `{}`).expect(t, 401, "unauthenticated")
	if all := kept.recorded(); len(all) != 1 || len(all[0].On) != 256 || !strings.HasPrefix(long, all[0].On) || all[0].Status != 401 {
		t.Errorf("a refused stranger is recorded as %+v", all)
	}
	kept.full = true
	e.do(t, "PATCH", long, `{}`).expect(t, 401, "unauthenticated")
	if !strings.Contains(e.logs.String(), "an audit record is lost") {
		t.Error("nobody hears of a record that is lost")
	}
	kept.full = false
	for range 5 {
		e.do(t, "PATCH", long, `{}`).expect(t, 429, "rate_limited")
	}
	if all := kept.recorded(); len(all) != 0 {
		t.Errorf("whoever is told to wait is recorded each time: %+v", all)
	}
}
