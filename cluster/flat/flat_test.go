package flat_test

import (
	"encoding/json"
	"maps"
	"strconv"
	"testing"

	"lockstep/cluster/flat"
)

// read is what Read finds; nil if it leaves the text.
func read(text string) map[string]any {
	found := map[string]any{}
	ok := flat.Read([]byte(text), func(name, value []byte, number bool) bool {
		if found[string(name)] = string(value); number {
			n, err := strconv.ParseInt(string(value), 10, 64)
			found[string(name)] = float64(n)
			return err == nil
		}
		return true
	})
	if !ok {
		return nil
	}
	return found
}

func TestAFlatObjectIsRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]map[string]any{
		`{"a":"b"}`:                       {"a": "b"},
		`{"a":"","b":0,"c":-7,"":"x,}:"}`: {"a": "", "b": 0.0, "c": -7.0, "": "x,}:"},
		`{"a":1,"a":"2"}`:                 {"a": "2"},
	} {
		if got := read(text); !maps.Equal(got, want) {
			t.Errorf("%s is read as %v", text, got)
		}
	}
}

// What is not flat, not plain or not JSON is left to whoever reads all of JSON.
func TestAllElseIsLeft(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		``, `{`, `}`, `{}`, `[]`, `null`, `"a"`, ` {"a":"b"}`, `{"a":"b"} `, `{ "a":"b"}`, `{"a" :"b"}`, `{"a": "b"}`, `{"a":"b" }`, `{"a":"b",}`,
		`{"a":"b"}}`, `{"a":"b""c":"d"}`, `{"a":"b"`, `{"a":"b`, `{"a":}`, `{"a"}`, `{"a`, `{a:"b"}`, `{"a":b}`, `{"a":"\n"}`, `{"a":"\\"}`, `{"\u0061":"b"}`,
		"{\"a\":\"\n\"}", `{"a":"é"}`, "{\"a\":\"\x7f\"}", `{"a":1.5}`, `{"a":1e5}`, `{"a":01}`, `{"a":-}`, `{"a":-01}`, `{"a":+1}`, `{"a":1`, `{"a":1234567890123456789}`,
		`{"a":true}`, `{"a":null}`, `{"a":{"b":"c"}}`, `{"a":["b"]}`, `{"a":"b"},{"a":"b"}`,
	} {
		if got := read(text); got != nil {
			t.Errorf("%s is read as %v", text, got)
		}
	}
	if flat.Read([]byte(`{"a":"b","c":"d"}`), func(name, _ []byte, _ bool) bool { return string(name) != "c" }) {
		t.Error("an object with a member that nobody takes was read")
	}
}

// What is read is JSON, and is what encoding/json finds.
func FuzzRead(f *testing.F) {
	f.Add(`{"a":"b","c":-12,"d":"}{"}`)
	f.Add(`{"a":"\""}`)
	f.Fuzz(func(t *testing.T, text string) {
		got := read(text)
		if got == nil {
			return
		}
		var want map[string]any
		if err := json.Unmarshal([]byte(text), &want); err != nil || !maps.Equal(got, want) {
			t.Errorf("%q is read as %v, and is %v, %v", text, got, want, err)
		}
	})
}
