package e2e_test

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// Pages that are read while others write miss nothing that was there before the first of them, and repeat nothing:
// statements, and lists of transfers, from the source and from replicas.
func TestPagesMissAndRepeatNothingWhileOthersWrite(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := s.as(t, s.newClient(t, everydayScopes)) // with a list of transfers of its own
	number, other := c.account("KRW", "1000000"), c.account("KRW", "1000000")
	before := map[string]bool{}
	var token string
	for i := range 60 {
		from, to := number, other
		if i%3 == 0 {
			from, to = to, from
		}
		paid := c.at(s.nodes[i%2]).post("/v1/transfers", payment(from, to, "1", "KRW")).expect(t, http.StatusCreated, "")
		before[paid.field("id")] = true
		token = paid.header.Get("Consistency-Token")
	}
	ctx, stop := context.WithCancel(context.Background())
	var written atomic.Int64
	var writers sync.WaitGroup
	for i := range 2 {
		writers.Go(func() {
			for ctx.Err() == nil {
				from, to := number, other
				if i%2 == 0 {
					from, to = to, from
				}
				c.inHaste().at(s.nodes[i]).post("/v1/transfers", payment(from, to, "1", "KRW")).expect(t, http.StatusCreated, "")
				written.Add(1)
			}
		})
	}
	defer writers.Wait()
	defer stop()
	lists := []struct {
		name, path string
		headers    []string
		read       func(page []byte) []string
	}{
		{"entries of the source", "/v1/accounts/" + number + "/entries?limit=12", []string{"Cache-Control", "no-cache"}, transferIDsOfEntries},
		{"entries of replicas", "/v1/accounts/" + number + "/entries?limit=12", []string{"Consistency-Token", token}, transferIDsOfEntries},
		{"transfers of the source", "/v1/transfers?limit=12&account=" + number, []string{"Cache-Control", "no-cache"}, transferIDs},
		{"transfers of replicas", "/v1/transfers?limit=12&account=" + number, []string{"Consistency-Token", token}, transferIDs},
		{"all transfers of the owner", "/v1/transfers?limit=12", []string{"Consistency-Token", token}, transferIDs},
	}
	for _, list := range lists {
		began := written.Load()
		seen, repeated := map[string]int{}, 0
		pages := c.pages(list.path, func(page []byte) {
			since := written.Load() // the next page is read when more has been written
			eventually(t, "others write", func() bool { return written.Load() > since })
			for _, id := range list.read(page) {
				if seen[id]++; seen[id] > 1 {
					repeated++
				}
			}
		}, list.headers...)
		missed := 0
		for id := range before {
			if seen[id] == 0 {
				missed++
			}
		}
		meanwhile := written.Load() - began
		t.Logf("%s: %d lines on %d pages while %d were written", list.name, len(seen), pages, meanwhile)
		if missed > 0 || repeated > 0 {
			t.Errorf("%s: the pages miss %d of %d and repeat %d", list.name, missed, len(before), repeated)
		}
		if meanwhile < int64(pages) || pages < 4 {
			t.Errorf("%s: %d lines were written while %d pages were read: nothing was put to the test", list.name, meanwhile, pages)
		}
	}
	// A statement's sequence shows a gap even where no list of ids was kept.
	entries := c.statement(number, 12)
	for i, entry := range entries {
		if want := entries[0].Sequence - int64(i); entry.Sequence != want {
			t.Fatalf("entry %d of the statement has sequence %d, want %d", i, entry.Sequence, want)
		}
	}
	if last := entries[len(entries)-1].Sequence; last != 1 {
		t.Errorf("the statement ends with sequence %d, want 1", last)
	}
}

func transferIDsOfEntries(page []byte) []string {
	var read struct{ Entries []entryLine }
	_ = json.Unmarshal(page, &read) // what cannot be read is missed
	ids := make([]string, 0, len(read.Entries))
	for _, entry := range read.Entries {
		ids = append(ids, entry.TransferID)
	}
	return ids
}

func transferIDs(page []byte) []string {
	var read struct{ Transfers []transferLine }
	_ = json.Unmarshal(page, &read) // what cannot be read is missed
	ids := make([]string, 0, len(read.Transfers))
	for _, transfer := range read.Transfers {
		ids = append(ids, transfer.ID)
	}
	return ids
}
