package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
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
	var into T
	body := x.body().bytes
	if err := x.acceptMedia("application/json"); err != nil {
		return into, err
	}
	if err := checkJSON(body); err != nil {
		return into, err
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&into); err != nil {
		return into, misfit(err)
	}
	return into, nil
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

// checkJSON refuses what encoding/json would let pass: a name twice (the last one would win), names in other letters
// (it folds case; all of ours are small), null (it would mean "absent"), text after the object, broken UTF-8.
func checkJSON(body []byte) error {
	if !utf8.Valid(body) {
		return ledger.Refuse(ledger.InvalidRequest, "the body is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	token, err := decoder.Token()
	if err != nil {
		return misfit(err)
	}
	if token != json.Delim('{') {
		return ledger.Refuse(ledger.InvalidRequest, "the body must be a JSON object")
	}
	if err := checkObject(decoder, depthMax); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return ledger.Refuse(ledger.InvalidRequest, "there is something after the JSON object")
	}
	return nil
}

func checkObject(decoder *json.Decoder, depth int) error {
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return misfit(err)
		}
		name, _ := token.(string)
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
			return ledger.Refuse(ledger.InvalidRequest, "there is no field of this name; the names are in small letters")
		}
		if seen[name] {
			return ledger.Refuse(ledger.InvalidRequest, "the field %s is there twice", name)
		}
		seen[name] = true
		if err := checkValue(decoder, name, depth); err != nil {
			return err
		}
	}
	return closeJSON(decoder)
}

func checkValue(decoder *json.Decoder, name string, depth int) error {
	token, err := decoder.Token()
	switch {
	case err != nil:
		return misfit(err)
	case token == nil:
		return ledger.Refuse(ledger.InvalidRequest, "the field %s is null; leave it out instead", name)
	case depth == 0:
		return ledger.Refuse(ledger.InvalidRequest, "the body is nested too deeply")
	case token == json.Delim('{'):
		return checkObject(decoder, depth-1)
	case token == json.Delim('['):
		for decoder.More() {
			if err := checkValue(decoder, name, depth-1); err != nil {
				return err
			}
		}
		return closeJSON(decoder)
	}
	return nil
}

func closeJSON(decoder *json.Decoder) error {
	if _, err := decoder.Token(); err != nil {
		return misfit(err)
	}
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
	if field == "amount" || field == "overdraft_limit" {
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
