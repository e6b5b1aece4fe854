package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"lockstep/api"
)

// sound is the slow way to see what a body must not have: token by token, with all names in one place.
func sound(body []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(body))
	type level struct {
		names  map[string]bool
		isName bool
	}
	var levels []level
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return len(levels) == 0
		}
		if err != nil || token == nil {
			return false
		}
		top := len(levels) - 1
		delim, _ := token.(json.Delim)
		if name, is := token.(string); is && top >= 0 && levels[top].isName {
			if levels[top].names[name] || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
				return false
			}
			levels[top].names[name], levels[top].isName = true, false
			continue
		}
		if top >= 0 && levels[top].names != nil && delim != '}' {
			levels[top].isName = true // after this value
		}
		switch delim {
		case '{':
			levels = append(levels, level{map[string]bool{}, true})
		case '[':
			levels = append(levels, level{})
		case '}', ']':
			levels = levels[:top]
		}
	}
}

// What the edge accepts as a body is what the slow way accepts and encoding/json can decode.
func FuzzBodies(f *testing.F) {
	for _, body := range []string{
		`{"from":"a","to":"b","amount":"1"}`, ` { "items" : [ { "from" : "\"]}" , "deep" : true } , {"amount":"1e5"} ] } `, `{}`, `[]`, `null`, `"x"`, ``,
		`{"from":null}`, `{"from":"a","from":"b"}`, `{"From":"a"}`, `{"fr\u006fm":"a"}`, `{"items":[null]}`, `{"items":[]}x`, `{"count":-1.5e3,"deep":false}`,
		`{"from":"a","items":[{"from":"a","from":"b"}]}`, `{"from":"\\"}`, "{\"from\":\"\xff\"}", `{"from":"a",}`, `{"items":[[[[[[[[[[1]]]]]]]]]]}`, `{"":""}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if bytes.Count(body, []byte("[")) > 3 {
			return // the slow way does not count how deep it is
		}
		err := api.DecodeBody(body)
		again := json.NewDecoder(bytes.NewReader(body))
		again.DisallowUnknownFields()
		decodes := again.Decode(new(api.TestBody)) == nil && len(body) > 0 && bytes.TrimLeft(body, " \t\r\n")[0] == '{'
		if wanted := decodes && sound(body) && json.Valid(body) && strings.ToValidUTF8(string(body), "") == string(body); (err == nil) != wanted {
			t.Errorf("%q: %v, though sound is %v", body, err, wanted)
		}
	})
}
