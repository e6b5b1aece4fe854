package api_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"lockstep/api"
	"lockstep/node/posting"
)

// held is an engine that answers nobody before it is let go.
type held struct {
	posting.Submitter
	arrived chan struct{}
	release chan struct{}
}

func (h held) Submit(ctx context.Context, command posting.Command) (posting.Outcome, error) {
	h.arrived <- struct{}{}
	<-h.release
	return h.Submitter.Submit(ctx, command)
}

// Changes beyond those that a node takes are refused before anything is looked at, and not so fast that it pays to come
// back at once. Reads have room of their own, and what is answered from memory needs none.
func TestAFullNodeRefusesChangesUnseen(t *testing.T) {
	t.Parallel()
	const takes = 3
	var engine held
	e := newEdge(t, func(d *api.Deps) {
		engine = held{d.Engine, make(chan struct{}), make(chan struct{})}
		d.Engine, d.RequestsMax = engine, takes
	})
	release := sync.OnceFunc(func() { close(engine.release) })
	defer release()
	number := e.open(t, "teller", "")
	deposit := `{"account":"` + number + `","amount":"1","currency":"KRW"}`
	var wg, refused sync.WaitGroup
	for range takes {
		wg.Go(func() {
			if got := e.post(t, "teller", "/v1/deposits", deposit); got.status != http.StatusCreated {
				t.Errorf("a deposit that was taken got %v", got)
			}
		})
		<-engine.arrived
	}
	for name, body := range map[string]string{"sound": deposit, "broken": "{"} {
		for _, who := range []string{"teller", "nobody"} {
			refused.Go(func() {
				began := time.Now()
				got := e.post(t, who, "/v1/deposits", body)
				if got.status != http.StatusServiceUnavailable || got.field("code") != "overloaded" || got.field("outcome") != "not_applied" ||
					got.field("retry") != "later" || got.header.Get("Retry-After") != "1" {
					t.Errorf("%s, of %s: got %v with %v", name, who, got, got.header)
				}
				if took := time.Since(began); took < api.RefusalPause {
					t.Errorf("%s, of %s: refused after %v", name, who, took)
				}
			})
		}
	}
	refused.Wait()
	e.get(t, "teller", "/v1/accounts/"+number).expect(t, http.StatusOK, "")
	e.do(t, http.MethodGet, "/readyz", "").expect(t, http.StatusOK, "")
	release()
	wg.Wait()
	go func() { <-engine.arrived }()
	e.post(t, "teller", "/v1/deposits", deposit).expect(t, http.StatusCreated, "")
}
