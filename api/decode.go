package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"lockstep/node/ledger"
)

// Bounds of what bodies and queries say.
const (
	depthMax       = 8
	descriptionMax = 200 // characters
	referenceMax   = 100
	labelMax       = 100
)

// decode reads the body as the JSON object that T is: nothing unknown, nothing twice, nothing after it, no null.
func decode[T any](x *exchange) (T, error) {
	if err := x.acceptMedia("application/json"); err != nil {
		var none T
		return none, err
	}
	return decodeJSON[T](x.body().bytes)
}

func decodeJSON[T any](body []byte) (T, error) {
	var into T
	if !utf8.Valid(body) {
		return into, ledger.Refuse(ledger.InvalidRequest, "the body is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&into); err != nil {
		return into, misfit(err)
	}
	return into, checkJSON(body, int(decoder.InputOffset()))
}

// decodeOptional is decode for a request that needs no body: none is an empty object.
func decodeOptional[T any](x *exchange) (T, error) {
	if len(x.body().bytes) == 0 {
		var into T
		return into, nil
	}
	return decode[T](x)
}

// acceptMedia refuses bodies of another type, and compressed ones: what they inflate to has no bound.
func (x *exchange) acceptMedia(want string) error {
	if encoding := x.header("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return ledger.Refuse(ledger.UnsupportedMediaType, "a body must not be compressed; leave Content-Encoding out")
	}
	kind, parameters, err := mime.ParseMediaType(x.header("Content-Type"))
	charset := parameters["charset"]
	if err != nil || kind != want || (charset != "" && !strings.EqualFold(charset, "utf-8")) {
		return ledger.Refuse(ledger.UnsupportedMediaType, "this takes Content-Type: %s", want)
	}
	return nil
}

// checkJSON refuses what encoding/json lets pass: a name twice (the last one would win), names in other letters (it folds
// case; all of ours are small), null (it would mean "absent"), text after the object. It looks at a body that was decoded,
// so that the JSON up to end is well formed and every name in it is one of ours, but for its letters.
func checkJSON(body []byte, end int) error {
	scan := scanner{rest: body[:end]}
	switch {
	case len(bytes.Trim(body[end:], jsonBlanks)) > 0:
		return ledger.Refuse(ledger.InvalidRequest, "there is something after the JSON object")
	case scan.next() != '{':
		return ledger.Refuse(ledger.InvalidRequest, "the body must be a JSON object")
	}
	return scan.object(depthMax)
}

const jsonBlanks = " \t\r\n"

// scanner walks well-formed JSON from token to token, without making anything of it.
type scanner struct{ rest []byte }

// next is the first byte of the next token, of which nothing is taken.
func (s *scanner) next() byte {
	s.rest = bytes.TrimLeft(s.rest, jsonBlanks)
	return s.rest[0]
}

// take takes one byte.
func (s *scanner) take() { s.rest = s.rest[1:] }

// text takes a string and is what it says.
func (s *scanner) text() []byte {
	for i := 1; ; i++ {
		switch s.rest[i] {
		case '\\':
			i++
		case '"':
			quoted := s.rest[:i+1]
			s.rest = s.rest[i+1:]
			return unquoted(quoted)
		}
	}
}

// unquoted is the text of a JSON string, of which few have anything but themselves between their quotes.
func unquoted(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var text string
	_ = json.Unmarshal(quoted, &text) // it was decoded before
	return []byte(text)
}

func (s *scanner) object(depth int) error {
	var known [8][]byte
	seen := known[:0]
	for s.take(); s.next() != '}'; {
		if s.next() == ',' {
			s.take()
			s.next()
		}
		name := s.text()
		switch {
		case len(bytes.Trim(name, "abcdefghijklmnopqrstuvwxyz_")) > 0:
			return ledger.Refuse(ledger.InvalidRequest, "there is no field of this name; the names are in small letters")
		case slices.ContainsFunc(seen, func(other []byte) bool { return bytes.Equal(other, name) }):
			return ledger.Refuse(ledger.InvalidRequest, "the field %s is there twice", name)
		}
		seen = append(seen, name)
		s.next()
		s.take() // the colon
		if err := s.value(name, depth); err != nil {
			return err
		}
	}
	s.take()
	return nil
}

func (s *scanner) value(name []byte, depth int) error {
	switch first := s.next(); {
	case depth == 0:
		return ledger.Refuse(ledger.InvalidRequest, "the body is nested too deeply")
	case first == 'n':
		return ledger.Refuse(ledger.InvalidRequest, "the field %s is null; leave it out instead", name)
	case first == '{':
		return s.object(depth - 1)
	case first == '[':
		return s.array(name, depth-1)
	case first == '"':
		s.text()
	default: // a number or a truth value
		s.rest = s.rest[max(0, bytes.IndexAny(s.rest, jsonBlanks+",]}")):]
	}
	return nil
}

func (s *scanner) array(name []byte, depth int) error {
	for s.take(); s.next() != ']'; {
		if s.next() == ',' {
			s.take()
		}
		if err := s.value(name, depth); err != nil {
			return err
		}
	}
	s.take()
	return nil
}

// misfit words an error of encoding/json, whose own texts speak of Go types.
func misfit(err error) error {
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType):
		return mistyped(wrongType)
	case strings.HasPrefix(err.Error(), "json: unknown field "): // it has no type of its own
		return ledger.Refuse(ledger.InvalidRequest, "there is no field %s here", strings.TrimPrefix(err.Error(), "json: unknown field "))
	}
	return ledger.Refuse(ledger.InvalidRequest, "the body is not JSON that can be read")
}

func mistyped(err *json.UnmarshalTypeError) error {
	field := err.Field[strings.LastIndexByte(err.Field, '.')+1:]
	if field == "" {
		return ledger.Refuse(ledger.InvalidRequest, "the body must be a JSON object")
	}
	if field == "amount" || field == "overdraft_limit" || field == "daily_out" {
		return ledger.Refuse(ledger.InvalidAmount, "%s is a JSON string such as \"1500\" or \"12.34\", not a JSON %s", field, err.Value)
	}
	return ledger.Refuse(ledger.InvalidRequest, "the field %s cannot be a JSON %s", err.Field, err.Value)
}

// checkText refuses a text that is too long or that has control characters. Characters are counted, not bytes.
func checkText(name, text string, charactersMax int) error {
	if utf8.RuneCountInString(text) > charactersMax {
		return ledger.Refuse(ledger.InvalidRequest, "%s has at most %d characters", name, charactersMax)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return ledger.Refuse(ledger.InvalidRequest, "%s has no line breaks and no other control characters", name)
	}
	return nil
}

// field is a text to be checked.
type field struct {
	name, text    string
	charactersMax int
}

func checkTexts(fields ...field) error {
	for _, f := range fields {
		if err := checkText(f.name, f.text, f.charactersMax); err != nil {
			return err
		}
	}
	return nil
}
