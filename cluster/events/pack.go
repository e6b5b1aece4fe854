package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
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
	batch := []byte{'['}
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
	return json.Marshal(e)
}

// Unpack returns, for each item of a batch, the event and the error that it has, so that a bad one can be parked alone. An
// item that is no event still has its Raw. Data that are no batch at all are one bad item.
func Unpack(data []byte) ([]Event, []error) {
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

func decode(item json.RawMessage) (Event, error) {
	var event Event
	err := json.Unmarshal(item, &event)
	event.Raw = item
	if err != nil {
		return event, fmt.Errorf("read an event: %w", err)
	}
	return event, event.validate()
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
