package events_test

import (
	"encoding/json"
	"testing"
	"time"

	"lockstep/cluster/events"
)

// An event that is written by hand, so to speak, is written as encoding/json writes it.
func TestAnEventIsPackedAsJSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 500, time.FixedZone("", 3600))
	for _, event := range []events.Event{
		{ID: "1", Source: "s", Type: "t"},
		{ID: "1", Source: "s", Type: "t", Subject: "x", Time: at, Epoch: -7, Trace: "00-a-b-01", Statement: "a.b.c"},
		{ID: `1"\\`, Source: "s<", Type: "t&\u2028", Subject: "한글\x01", Time: at},
		{ID: "1", Source: "s", Type: "t", DataContentType: "x/y", Data: json.RawMessage(`{"a":1}`)},
	} {
		packed, err := events.Pack([]events.Event{event, event})
		if err != nil {
			t.Fatal(err)
		}
		event.SpecVersion = "1.0"
		want, err := json.Marshal([]events.Event{event, event})
		if err != nil || string(packed) != string(want) {
			t.Errorf("%+v is packed as\n%s, not\n%s, %v", event, packed, want, err)
		}
	}
}

// However a batch is written, the same events are found in it, and what is no batch is one bad item.
func TestTheFormOfABatchDoesNotMatter(t *testing.T) {
	t.Parallel()
	const one, other = `{"specversion":"1.0","id":"a\\\"}{","source":"s","type":"t","data":{"x":["}]"]}}`, `{"specversion":"1.0","id":"b","source":"s","type":"t"}`
	for text, want := range map[string]string{
		"[]": "", "[ ]": "", "[" + one + "]": "a\\\"}{ ", "[" + one + "," + other + "]": "a\\\"}{ b ", "[ " + one + " ,\n" + other + "]": "a\\\"}{ b ",
		"[" + other + "," + other + "," + one + "]": "b b a\\\"}{ ",
		"[" + other + ",7," + one + "]":             "b ! a\\\"}{ ",
		"[" + other + ",{}," + one + "]":            "b ! a\\\"}{ ",
		"[" + other + `,{"id":8},` + one + "]":      "b ! a\\\"}{ ",
		"[" + other + ",]":                          "!", "[" + other + other + "]": "!", "[" + other + "x]": "!", "[{" + other + "]": "!", "[{]": "!",
		"[" + other + "]]": "!", "[,]": "!", `["]`: "!", `[{"]`: "!", `[{"\\]`: "!", "[{]}]": "!", "{}": "!", "": "!", "[": "!", "]": "!",
	} {
		found, failures := events.Unpack([]byte(text))
		got := ""
		for i := range found {
			if failures[i] != nil {
				got += "!"
			} else {
				got += found[i].ID
			}
			if len(found) > 1 || failures[i] == nil {
				got += " "
			}
		}
		if got != want {
			t.Errorf("%s: found %q, not %q (%v)", text, got, want, failures)
		}
	}
}
