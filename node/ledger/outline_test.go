package ledger_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"lockstep/node/ledger"
)

// What a batch decides alike is told once, and read as it was written; what differs in anything but its transfer is apart.
func TestAnOutlineSaysOnceWhatEventsHaveInCommon(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	event := func(id string, change func(*ledger.PeerEvent)) ledger.PeerEvent {
		e := ledger.PeerEvent{
			Peer: "beta", Type: ledger.EventCommitted, Epoch: 3, PayeeEpoch: 4, ID: ledger.TransferID(id), From: "alpha-1", To: "beta-1",
			Amount: ledger.Money{Minor: 5, Currency: "KRW"}, Description: "rent", Origin: "sealed", At: at,
		}
		change(&e)
		return e
	}
	events := []ledger.PeerEvent{
		event("a", func(*ledger.PeerEvent) {}),
		event("b", func(e *ledger.PeerEvent) { e.Type = ledger.EventAborted }),
		event("c", func(e *ledger.PeerEvent) { e.Epoch = 2 }),
		event("d", func(e *ledger.PeerEvent) { e.Amount.Currency = "USD" }),
		event("e", func(e *ledger.PeerEvent) { e.Trace = "00-a" }),
		event("f", func(e *ledger.PeerEvent) { e.At = at.Add(1000) }),
		event("g", func(e *ledger.PeerEvent) { e.Amount.Minor, e.From, e.Description, e.Origin = 9, "alpha-2", "", "other" }),
	}
	whole, err := json.Marshal(events) // as an earlier release wrote them
	if err != nil {
		t.Fatal(err)
	}
	row, err := json.Marshal(ledger.OutlineOf(events))
	if err != nil {
		t.Fatal(err)
	}
	common := func(kind string, epoch int64, currency ledger.Currency, trace string, at time.Time) ledger.Common {
		return ledger.Common{Type: kind, Epoch: epoch, Currency: currency, Trace: trace, At: at}
	}
	want := ledger.Outline{Told: []ledger.Told{
		{common(ledger.EventCommitted, 3, "KRW", "", at), []ledger.TransferID{"a", "g"}},
		{common(ledger.EventAborted, 3, "KRW", "", at), []ledger.TransferID{"b"}},
		{common(ledger.EventCommitted, 2, "KRW", "", at), []ledger.TransferID{"c"}},
		{common(ledger.EventCommitted, 3, "USD", "", at), []ledger.TransferID{"d"}},
		{common(ledger.EventCommitted, 3, "KRW", "00-a", at), []ledger.TransferID{"e"}},
		{common(ledger.EventCommitted, 3, "KRW", "", at.Add(1000)), []ledger.TransferID{"f"}},
	}}
	for name, text := range map[string][]byte{"its own": row, "an earlier release's": whole} {
		if read, err := ledger.ReadOutline(text); err != nil || !reflect.DeepEqual(read, want) {
			t.Errorf("%s row is read as %+v, %v", name, read, err)
		}
	}
	if json.Unmarshal(row, &events) == nil {
		t.Error("an earlier release would read our row as events without a transfer")
	}
	for _, text := range []string{"", "{", "[]", "{}", `{"told":[]}`, `{"transfer.posted":["a"]}`} {
		if read, err := ledger.ReadOutline([]byte(text)); err == nil {
			t.Errorf("%q is read as %+v", text, read)
		}
	}
}
