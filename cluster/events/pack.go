package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"lockstep/cluster/flat"
)

// ContentType of a message that Pack made, for its Content-Type header (CloudEvents 1.0, JSON Event Format, section 4).
const ContentType = "application/cloudevents-batch+json"

// specVersion of CloudEvents.
const specVersion = "1.0"

// Event is a CloudEvent of version 1.0 in its JSON format, with the two extensions that systems tell each other.
type Event struct {
	SpecVersion     string          `json:"specversion"` // Pack fills in 1.0
	ID              string          `json:"id"`          // unique for its source
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            time.Time       `json:"time,omitzero"`
	DataContentType string          `json:"datacontenttype,omitempty"`
	Data            json.RawMessage `json:"data,omitempty"`

	// Epoch is the sender's. As a number it stays in the range of a CloudEvents Integer until 2038.
	Epoch int64 `json:"epoch,omitempty"`

	// Trace is the traceparent of what the event comes from (CloudEvents extension Distributed Tracing); "" is none.
	Trace string `json:"traceparent,omitempty"`

	// Statement is a JWS in compact form over what the event says.
	Statement string `json:"statement,omitempty"`

	// Raw is the event as Unpack found it. Pack writes it as it is, so that what we do not know is not lost on the way.
	Raw json.RawMessage `json:"-"`
}

// Pack makes one batch of events (CloudEvents 1.0, JSON Event Format, section 4). It refuses an event that Unpack would
// refuse, naming its place.
func Pack(events []Event) ([]byte, error) {
	size := 2
	for i := range events {
		size += len(events[i].ID) + len(events[i].Subject) + len(events[i].Statement) + len(events[i].Data) + len(events[i].Raw) + 2*eventBytes
	}
	batch := append(make([]byte, 0, size), '[')
	for i, event := range events {
		item, err := event.encode()
		if err != nil {
			return nil, fmt.Errorf("pack event %d: %w", i, err)
		}
		if i > 0 {
			batch = append(batch, ',')
		}
		batch = append(batch, item...) // it is JSON already: encode has made it, or seen that
	}
	return append(batch, ']'), nil
}

func (e Event) encode() (json.RawMessage, error) {
	if e.Raw != nil {
		if !json.Valid(e.Raw) {
			return nil, errors.New("it is no JSON")
		}
		return e.Raw, nil
	}
	if e.SpecVersion == "" {
		e.SpecVersion = specVersion
	}
	if err := e.validate(); err != nil {
		return nil, err
	}
	if e.DataContentType == "" && e.Data == nil && plain(e.ID, e.Source, e.Type, e.Subject, e.Trace, e.Statement) {
		return e.plainly(), nil
	}
	return json.Marshal(e)
}

// plain tells whether texts stand in JSON as they are.
func plain(texts ...string) bool {
	for _, text := range texts {
		for i := range len(text) {
			if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
				return false
			}
		}
	}
	return true
}

// plainly is json.Marshal for an event without data whose texts are plain: most are, and their statements are long.
func (e Event) plainly() []byte {
	item := make([]byte, 0, len(e.ID)+len(e.Source)+len(e.Type)+len(e.Subject)+len(e.Statement)+eventBytes)
	item = append(append(item, `{"specversion":"`...), e.SpecVersion...)
	item = append(append(item, `","id":"`...), e.ID...)
	item = append(append(item, `","source":"`...), e.Source...)
	item = append(append(append(item, `","type":"`...), e.Type...), '"')
	if e.Subject != "" {
		item = append(append(append(item, `,"subject":"`...), e.Subject...), '"')
	}
	if !e.Time.IsZero() {
		item = append(e.Time.AppendFormat(append(item, `,"time":"`...), time.RFC3339Nano), '"')
	}
	if e.Epoch != 0 {
		item = strconv.AppendInt(append(item, `,"epoch":`...), e.Epoch, 10)
	}
	if e.Trace != "" {
		item = append(append(append(item, `,"traceparent":"`...), e.Trace...), '"')
	}
	if e.Statement != "" {
		item = append(append(append(item, `,"statement":"`...), e.Statement...), '"')
	}
	return append(item, '}')
}

// eventBytes is what surrounds the texts of an event.
const eventBytes = 160

// Unpack returns, for each item of a batch, the event and the error that it has, so that a bad one can be parked alone. An
// item that is no event still has its Raw. Data that are no batch at all are one bad item.
func Unpack(data []byte) ([]Event, []error) {
	if events, failures, tight := unpackTight(data); tight {
		return events, failures
	}
	var items []json.RawMessage
	if err := json.Unmarshal(data, &items); err != nil {
		return []Event{{Raw: data}}, []error{fmt.Errorf("read a batch of events: %w", err)}
	}
	events, failures := make([]Event, len(items)), make([]error, len(items))
	for i, item := range items {
		events[i], failures[i] = decode(item)
	}
	return events, failures
}

// unpackTight is Unpack for a batch as Pack writes it; false when it may be another, or none at all.
func unpackTight(data []byte) (events []Event, failures []error, tight bool) {
	items, tight := split(data)
	if !tight {
		return nil, nil, false
	}
	events, failures = make([]Event, len(items)), make([]error, len(items))
	for i, item := range items {
		events[i], failures[i] = decode(item)
		if odd := (*json.SyntaxError)(nil); errors.As(failures[i], &odd) {
			return nil, nil, false
		}
	}
	return events, failures, true
}

// split finds the items of a batch of objects with nothing but a comma between them. It looks at strings and braces only, and so
// once at the long statements, for each item is read by itself afterwards.
func split(data []byte) (items []json.RawMessage, tight bool) {
	if len(data) < 2 || data[0] != '[' || data[len(data)-1] != ']' {
		return nil, false
	}
	rest := data[1 : len(data)-1]
	for len(rest) > 0 {
		end := objectEnd(rest)
		if end == 0 {
			return nil, false
		}
		items = append(items, json.RawMessage(rest[:end]))
		switch rest = rest[end:]; {
		case len(rest) == 0:
		case len(rest) > 1 && rest[0] == ',':
			rest = rest[1:]
		default:
			return nil, false
		}
	}
	return items, true
}

// objectEnd is where the object ends that text begins with, 0 if it does not.
func objectEnd(text []byte) int {
	if text[0] != '{' {
		return 0
	}
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			i = stringEnd(text, i)
		}
	}
	return 0
}

// stringEnd is where the string ends that begins at a place, or the end of the text.
func stringEnd(text []byte, begin int) int {
	for at := begin + 1; at < len(text); {
		quote := bytes.IndexByte(text[at:], '"')
		if quote < 0 {
			break
		}
		escape := bytes.IndexByte(text[at:at+quote], '\\')
		if escape < 0 {
			return at + quote
		}
		at += escape + 2
	}
	return len(text)
}

func decode(item json.RawMessage) (event Event, err error) {
	if !flat.Read(item, event.take) {
		event = Event{}
		err = json.Unmarshal(item, &event)
	}
	event.Raw = item
	if err != nil {
		return event, fmt.Errorf("read an event: %w", err)
	}
	return event, event.validate()
}

// take sets an attribute; false if it is another, or has another value, than what plainly writes.
func (e *Event) take(name, value []byte, number bool) bool {
	var text *string
	switch string(name) {
	case "specversion":
		text = &e.SpecVersion
	case "id":
		text = &e.ID
	case "source":
		text = &e.Source
	case "type":
		text = &e.Type
	case "subject":
		text = &e.Subject
	case "traceparent":
		text = &e.Trace
	case "statement":
		text = &e.Statement
	case "time":
		return !number && e.Time.UnmarshalText(value) == nil
	case "epoch":
		var err error
		e.Epoch, err = strconv.ParseInt(string(value), 10, 64)
		return number && err == nil
	}
	if text == nil || number {
		return false
	}
	*text = string(value)
	return true
}

// validate asks for the attributes that CloudEvents requires (CloudEvents 1.0, section 3.1).
func (e Event) validate() error {
	switch {
	case e.SpecVersion != specVersion:
		return fmt.Errorf("specversion %q of an event is not %s", e.SpecVersion, specVersion)
	case e.ID == "":
		return errors.New("an event has no id")
	case e.Source == "":
		return errors.New("an event has no source")
	case e.Type == "":
		return errors.New("an event has no type")
	}
	return nil
}
