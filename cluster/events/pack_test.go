package events_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"lockstep/cluster/events"
)

func event(id string) events.Event {
	return events.Event{
		ID: id, Source: "/systems/alpha", Type: "lockstep.transfer.committed", Subject: "transfers/" + id,
		Time: time.Date(2025, 3, 1, 12, 0, 0, 5000, time.UTC), DataContentType: "application/json",
		Data: json.RawMessage(`{"amount":5}`), Epoch: 1_740_000_000, Statement: "e30.e30.c2ln",
	}
}

func TestABatchComesBackAsItWas(t *testing.T) {
	t.Parallel()
	packed, err := events.Pack([]events.Event{event("1"), event("2")})
	if err != nil {
		t.Fatal(err)
	}
	back, failures := events.Unpack(packed)
	if len(back) != 2 || failures[0] != nil || failures[1] != nil {
		t.Fatalf("unpacked %d events, %v", len(back), failures)
	}
	want, got := event("2"), back[1]
	if got.SpecVersion != "1.0" || got.ID != want.ID || !got.Time.Equal(want.Time) || string(got.Data) != string(want.Data) ||
		got.Epoch != want.Epoch || got.Statement != want.Statement || got.Source != want.Source || got.Subject != want.Subject {
		t.Errorf("unpacked %+v", got)
	}
	again, err := events.Pack(back)
	if err != nil || string(again) != string(packed) {
		t.Errorf("packed again it is %s, %v", again, err)
	}
	if empty, err := events.Pack(nil); err != nil || string(empty) != "[]" {
		t.Errorf("no events are %s, %v", empty, err)
	}
}

// The form of the JSON, against the examples of the specification.
func TestAnEventHasTheAttributesOfCloudEvents(t *testing.T) {
	t.Parallel()
	packed, err := events.Pack([]events.Event{event("1")})
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"specversion":"1.0","id":"1","source":"/systems/alpha","type":"lockstep.transfer.committed","subject":"transfers/1",` +
		`"time":"2025-03-01T12:00:00.000005Z","datacontenttype":"application/json","data":{"amount":5},` +
		`"epoch":1740000000,"statement":"e30.e30.c2ln"}]`
	if string(packed) != want {
		t.Errorf("packed is\n%s, want\n%s", packed, want)
	}
}

func TestBadItemsDoNotDisturbTheirNeighbours(t *testing.T) {
	t.Parallel()
	good := `{"specversion":"1.0","id":"1","source":"s","type":"t"}`
	for _, bad := range []string{
		`7`, `null`, `[]`, `{}`, `"x"`,
		strings.Replace(good, "1.0", "0.3", 1), strings.Replace(good, `"id":"1"`, `"id":""`, 1),
		strings.Replace(good, `"id":"1"`, `"id":1`, 1), strings.Replace(good, `"source":"s",`, ``, 1),
		strings.Replace(good, `"type":"t"`, `"type":"t","time":"yesterday"`, 1), strings.Replace(good, `"type":"t"`, `"type":"t","epoch":1.5`, 1),
		strings.Replace(good, `,"type":"t"`, ``, 1),
	} {
		items, failures := events.Unpack([]byte("[" + good + "," + bad + "," + good + "]"))
		if len(items) != 3 || failures[0] != nil || failures[2] != nil || failures[1] == nil || string(items[1].Raw) != bad {
			t.Errorf("%s: unpacked with %v", bad, failures)
		}
	}
	for _, bad := range []string{``, `{}`, `[`, good, "[" + good + "]x"} {
		if items, failures := events.Unpack([]byte(bad)); len(items) != 1 || failures[0] == nil || string(items[0].Raw) != bad {
			t.Errorf("%s: unpacked with %v", bad, failures)
		}
	}
	for _, bad := range []events.Event{{}, {ID: "1", Source: "s"}, {Raw: []byte("{")}, {ID: "1", Source: "s", Type: "t", Data: []byte("{")}} {
		if _, err := events.Pack([]events.Event{event("1"), bad}); err == nil || !strings.Contains(err.Error(), "event 1") {
			t.Errorf("packing %+v says %v", bad, err)
		}
	}
}

// Whatever arrives, each item is an event that can be packed, or has its error and its bytes.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte(`[{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":[1]}},7]`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		items, failures := events.Unpack(data)
		if len(items) != len(failures) {
			t.Fatalf("%d items, %d errors", len(items), len(failures))
		}
		for i, item := range items {
			if failures[i] == nil && item.ID == "" {
				t.Errorf("item %d has no id", i)
			}
			if _, err := events.Pack(items[i : i+1]); failures[i] == nil && err != nil {
				t.Errorf("item %d cannot be packed: %v", i, err)
			}
		}
	})
}
