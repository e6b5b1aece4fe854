package chaos_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"lockstep/cluster/chaos"
)

// healthy is a small run without a flaw: payments inside and across, a hold of each end, refusals and reads.
func healthy() chaos.Evidence {
	at := time.Duration(0)
	next := func() time.Duration { at += time.Second; return at }
	op := func(kind chaos.Kind, reference, from, to string, amount int64, end chaos.End, tries ...chaos.Try) chaos.Op {
		if tries == nil {
			tries = []chaos.Try{{Status: 201}}
		}
		return chaos.Op{System: from[:1], Kind: kind, Reference: reference, From: from, To: to, Amount: amount, ID: "id-" + reference, Call: next(), Return: next(), End: end, Tries: tries}
	}
	held := func(o chaos.Op, hold string) chaos.Op { o.Hold, o.ID = hold, ""; return o }
	look := func(kind chaos.Kind, system, from string, balances map[string]chaos.Balance) chaos.Op {
		return chaos.Op{System: system, Kind: kind, From: from, Call: next(), Return: next(), End: chaos.Applied, Strong: true, Balances: balances, Tries: []chaos.Try{{Status: 200}}}
	}
	poor, away := chaos.Try{Status: 422, Code: "insufficient_funds"}, chaos.Try{Status: 503, Code: "source_unavailable"}
	posting := func(reference, payer, kind, from, to string, amount int64, hold string) chaos.Posting {
		return chaos.Posting{ID: "id-" + reference, Payer: payer, Kind: kind, State: "posted", From: from, To: to, Amount: amount, Reference: reference, Hold: hold}
	}
	across, back := posting("r3", "a", "transfer", "a-3", "b-3", 40, ""), posting("r9", "b", "transfer", "b-3", "a-3", 5, "")
	capture := posting("", "a", "capture", "a-2", "a-1", 20, "h1")
	capture.ID = "captured"
	voided := posting("r4", "a", "transfer", "a-3", "b-3", 60, "")
	voided.State = "voided"
	return chaos.Evidence{
		Opening: 100, Pairs: [][2]string{{"a-1", "a-2"}, {"b-1", "b-2"}}, Travel: []string{"a-3", "b-3"},
		Ops: []chaos.Op{
			op(chaos.Transfer, "r1", "a-1", "a-2", 30, chaos.Applied, away, chaos.Try{Error: "reset"}, chaos.Try{Status: 201}),
			op(chaos.Transfer, "r2", "a-1", "a-2", 90, chaos.Refused, poor),
			look(chaos.Survey, "a", "", map[string]chaos.Balance{"a-1": {Posted: 70}, "a-2": {Posted: 130}, "a-3": {Posted: 100}}),
			op(chaos.Remit, "r3", "a-3", "b-3", 40, chaos.Applied, chaos.Try{Status: 202}, chaos.Try{Status: 201}),
			op(chaos.Remit, "r4", "a-3", "b-3", 60, chaos.Refused, chaos.Try{Status: 503, Code: "peer_unavailable"}),
			op(chaos.Transfer, "r5", "b-1", "b-2", 10, chaos.NotApplied, away),
			held(op(chaos.Hold, "r6", "a-2", "a-1", 20, chaos.Applied), "h1"),
			look(chaos.Read, "a", "a-2", map[string]chaos.Balance{"a-2": {Posted: 130, Held: 20}}),
			held(op(chaos.Capture, "r7", "a-2", "a-1", 20, chaos.Applied), "h1"),
			held(op(chaos.Hold, "r8", "b-1", "b-2", 100, chaos.Applied), "h2"),
			op(chaos.Transfer, "r10", "b-1", "b-2", 1, chaos.Refused, poor),
			held(op(chaos.Void, "r11", "b-1", "b-2", 100, chaos.Applied, chaos.Try{Status: 200}), "h2"),
			op(chaos.Remit, "r9", "b-3", "a-3", 5, chaos.Applied),
		},
		Books: []chaos.Books{
			{
				System:    "a",
				Accounts:  map[string]chaos.Balance{"a-1": {Posted: 90}, "a-2": {Posted: 110}, "a-3": {Posted: 65}},
				Transfers: []chaos.Posting{posting("r1", "a", "transfer", "a-1", "a-2", 30, ""), across, voided, capture, back},
				Holds:     map[string]chaos.HoldRow{"h1": {Account: "a-2", Amount: 20, Captured: 20, State: "posted"}},
				Remittances: map[string]chaos.RemittanceRow{
					"id-r3": {State: "posted"}, "id-r4": {State: "voided"}, "id-r9": {State: "posted"},
				},
			}, {
				System:      "b",
				Accounts:    map[string]chaos.Balance{"b-1": {Posted: 100}, "b-2": {Posted: 100}, "b-3": {Posted: 135}},
				Transfers:   []chaos.Posting{across, back},
				Holds:       map[string]chaos.HoldRow{"h2": {Account: "b-1", Amount: 100, State: "voided"}},
				Remittances: map[string]chaos.RemittanceRow{"id-r3": {State: "posted"}, "id-r9": {State: "posted"}},
			},
		},
	}
}

// broken names the rules that evidence breaks.
func broken(e chaos.Evidence) (names []string) {
	for _, check := range chaos.Audit(e) {
		if len(check.Breaches) > 0 {
			names = append(names, check.Name)
		}
	}
	return names
}

// A run without a flaw breaks no rule, and every rule has judged something.
func TestAHealthyRecordBreaksNoRule(t *testing.T) {
	t.Parallel()
	for _, check := range chaos.Audit(healthy()) {
		if len(check.Breaches) > 0 || check.Judged == 0 {
			t.Errorf("%s judged %d and found %q", check.Name, check.Judged, check.Breaches)
		}
	}
}

// Each kind of breach is found by the rule that it breaks, and by no other than those that it must break as well.
func TestEachBreachIsFound(t *testing.T) {
	t.Parallel()
	remove := func(b *chaos.Books, id string) {
		b.Transfers = slices.DeleteFunc(b.Transfers, func(p chaos.Posting) bool { return p.ID == id })
	}
	move := func(b *chaos.Books, number string, amount int64) {
		balance := b.Accounts[number]
		balance.Posted += amount
		b.Accounts[number] = balance
	}
	find := func(e *chaos.Evidence, reference string) *chaos.Op {
		return &e.Ops[slices.IndexFunc(e.Ops, func(op chaos.Op) bool { return op.Reference == reference })]
	}
	for name, c := range map[string]struct {
		doctor func(e *chaos.Evidence)
		rules  []string
	}{
		"an acknowledged transfer is lost, with its money back": {func(e *chaos.Evidence) {
			remove(&e.Books[0], "id-r1")
			move(&e.Books[0], "a-1", 30)
			move(&e.Books[0], "a-2", -30)
		}, []string{"acknowledged_once", "balances"}},
		"an acknowledged transfer is there twice": {func(e *chaos.Evidence) {
			again := e.Books[0].Transfers[0]
			again.ID = "another"
			e.Books[0].Transfers = append(e.Books[0].Transfers, again)
			move(&e.Books[0], "a-1", -30)
			move(&e.Books[0], "a-2", 30)
		}, []string{"acknowledged_once", "balances"}},
		"a transfer has another amount": {func(e *chaos.Evidence) { e.Books[0].Transfers[0].Amount = 31 }, []string{"acknowledged_once"}},
		"a transfer has another payee":  {func(e *chaos.Evidence) { e.Books[0].Transfers[0].To = "a-3" }, []string{"acknowledged_once"}},
		"the payee's system lost a transfer across": {func(e *chaos.Evidence) {
			remove(&e.Books[1], "id-r3")
			delete(e.Books[1].Remittances, "id-r3")
			move(&e.Books[1], "b-3", -40)
		}, []string{"totals", "acknowledged_once", "balances", "both_sides_alike"}},
		"a capture is lost": {func(e *chaos.Evidence) { remove(&e.Books[0], "captured") }, []string{"acknowledged_once"}},
		"a refused transfer is applied": {func(e *chaos.Evidence) {
			e.Books[0].Transfers = append(e.Books[0].Transfers, chaos.Posting{ID: "id-r2", Payer: "a", Kind: "transfer", State: "posted", From: "a-1", To: "a-2", Amount: 90, Reference: "r2"})
		}, []string{"refused_without_effect"}},
		"a transfer that was said to be not applied is applied": {func(e *chaos.Evidence) {
			e.Books[1].Transfers = append(e.Books[1].Transfers, chaos.Posting{ID: "id-r5", Payer: "b", Kind: "transfer", State: "posted", From: "b-1", To: "b-2", Amount: 10, Reference: "r5"})
			move(&e.Books[1], "b-1", -10)
			move(&e.Books[1], "b-2", 10)
		}, []string{"refused_without_effect", "balances"}},
		"a voided transfer across is posted": {func(e *chaos.Evidence) { e.Books[0].Transfers[2].State = "posted" }, []string{"refused_without_effect"}},
		"a transfer is there that nobody asked for": {func(e *chaos.Evidence) {
			e.Books[0].Transfers = append(e.Books[0].Transfers, chaos.Posting{ID: "ghost", Payer: "a", Kind: "transfer", State: "posted", From: "a-1", To: "a-2", Amount: 1, Reference: "ghost"})
		}, []string{"refused_without_effect"}},
		"a read shows a wrong total": {func(e *chaos.Evidence) {
			e.Ops[2].Balances = maps.Clone(e.Ops[2].Balances)
			e.Ops[2].Balances["a-1"] = chaos.Balance{Posted: 100}
		}, []string{"totals", "linearizable"}},
		"a read shows what is old":           {func(e *chaos.Evidence) { e.Ops[7].Balances["a-2"] = chaos.Balance{Posted: 130} }, []string{"linearizable"}},
		"money appears":                      {func(e *chaos.Evidence) { move(&e.Books[1], "b-1", 1) }, []string{"totals", "balances"}},
		"an account has less than nothing":   {func(e *chaos.Evidence) { move(&e.Books[1], "b-1", -101); move(&e.Books[1], "b-2", 101) }, []string{"not_negative", "balances"}},
		"a read shows less than nothing":     {func(e *chaos.Evidence) { e.Ops[7].Balances["a-2"] = chaos.Balance{Posted: 10, Held: 20} }, []string{"not_negative", "linearizable"}},
		"the sides of a transfer are unlike": {func(e *chaos.Evidence) { e.Books[1].Remittances["id-r9"] = chaos.RemittanceRow{State: "voided"} }, []string{"both_sides_alike"}},
		"a transfer is still under way":      {func(e *chaos.Evidence) { e.Books[0].Remittances["id-r4"] = chaos.RemittanceRow{State: "pending"} }, []string{"both_sides_alike"}},
		"an acknowledged hold is lost":       {func(e *chaos.Evidence) { delete(e.Books[1].Holds, "h2") }, []string{"holds_end_once"}},
		"a voided hold was captured":         {func(e *chaos.Evidence) { e.Books[1].Holds["h2"] = chaos.HoldRow{State: "posted"} }, []string{"holds_end_once"}},
		"a hold is there that nobody made":   {func(e *chaos.Evidence) { e.Books[1].Holds["h3"] = chaos.HoldRow{State: "voided"} }, []string{"holds_end_once"}},
		"a payment is refused that had its money": {func(e *chaos.Evidence) {
			find(e, "r10").Call, find(e, "r10").Return = 100*time.Second, 101*time.Second
		}, []string{"linearizable"}},
		"a change has no definite end": {func(e *chaos.Evidence) { find(e, "r10").End = chaos.Open }, []string{"definite"}},
		"an answer is no answer of the contract": {func(e *chaos.Evidence) {
			find(e, "r10").Tries = []chaos.Try{{Status: 500, Code: "internal"}}
		}, []string{"contract"}},
	} {
		e := healthy()
		c.doctor(&e)
		if found := broken(e); !slices.Equal(found, c.rules) {
			t.Errorf("%s: found by %v, want %v", name, found, c.rules)
		}
	}
}
