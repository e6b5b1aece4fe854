package events_test

import (
	"encoding/json"
	"reflect"
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

// An event that is read by hand is what encoding/json reads, or is left to it.
func TestAnEventIsReadAsJSON(t *testing.T) {
	t.Parallel()
	const begin = `{"specversion":"1.0","id":"1","source":"s","type":"t"`
	for _, rest := range []string{
		`}`, `,"subject":"x","time":"2026-03-01T12:00:00.0000005+01:00","epoch":-7,"traceparent":"00-a-b-01","statement":"a.b.c"}`,
		`,"ID":"2"}`, `,"id":"2"}`, `,"id":2}`, `,"id":null}`, `,"time":"yesterday"}`, `,"time":7}`, `,"epoch":"7"}`, `,"epoch":7.5}`, `,"epoch":1234567890123456789}`,
		`,"subject":"a\u0041\n"}`, `,"subject":"한글"}`, `,"data":{"a":1}}`, `,"data":7,"datacontenttype":"x/y"}`, `,"unknown":"x"}`, `, "subject":"x"}`, `,"subject":"x",}`,
	} {
		var want events.Event
		failure := json.Unmarshal([]byte(begin+rest), &want)
		want.Raw = json.RawMessage(begin + rest)
		got, failures := events.Unpack([]byte("[" + begin + rest + "]"))
		if len(got) != 1 || (failures[0] == nil) != (failure == nil) || failure == nil && !reflect.DeepEqual(got[0], want) {
			t.Errorf("%s is read as\n%+v, %v, not\n%+v, %v", rest, got, failures, want, failure)
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
