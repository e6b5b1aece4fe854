package api

import (
	"lockstep/node/ledger"
)

// What the tests of the edge look at from inside.

// RouteFact is a line of the route table.
type RouteFact struct {
	Method, Path, Scope string
	Keyed               bool
}

// RouteFacts lists the routes that the code serves.
func RouteFacts() []RouteFact {
	var facts []RouteFact
	for _, r := range (&Server{}).routes() {
		facts = append(facts, RouteFact{r.method, r.path, r.scope, r.keyed})
	}
	return facts
}

// RuleFact is a line of the problem table.
type RuleFact struct {
	Code           string
	Status         int
	Outcome, Retry string
	After          int
	Early          bool
}

// RuleFacts lists the problem table.
func RuleFacts() []RuleFact {
	var facts []RuleFact
	for code, r := range rules {
		facts = append(facts, RuleFact{string(code), r.status, string(r.outcome), string(r.retry), r.after, r.early})
	}
	return facts
}

// Words are all texts of a code, English then Korean.
func Words(code string) []string {
	w := words[ledger.Code(code)]
	return []string{w.en.title, w.en.meaning, w.en.action, w.ko.title, w.ko.meaning, w.ko.action}
}

// EarlierRequest is the sentence of early answers.
func EarlierRequest(in string) string { return earlierRequest[language(in)] }

// Cursor writes and ParseCursor reads a cursor.
func Cursor(list, position string) string { return cursor{list, position}.String() }

// ParseCursor reads what Cursor wrote.
func ParseCursor(text string) (list, position string, err error) {
	c, err := parseCursor(text)
	return c.list, c.position, err
}

// Parsers of headers and texts.
var (
	ParseKey          = parseKey
	PreferredWait     = preferredWait
	RequestID         = requestID
	TraceID           = traceID
	ParentOf          = parentOf
	Masked            = masked
	BigDecimal        = decimal
	PreferredLanguage = func(accept string) string { return string(preferredLanguage(accept)) }
)

// Bounds.
const (
	BodyBytesMax    = bodyBytesMax
	RefusalPause    = refusalPause
	RendererVersion = rendererVersion
)

// TestBody is a body of every form that ours have.
type TestBody struct {
	From   string     `json:"from"`
	To     string     `json:"to"`
	Amount string     `json:"amount"`
	Count  float64    `json:"count"`
	Deep   bool       `json:"deep"`
	Items  []TestBody `json:"items"`
}

// DecodeBody decodes a body as TestBody.
func DecodeBody(body []byte) error {
	_, err := decodeJSON[TestBody](body)
	return err
}
