package api

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"lockstep/node/ledger"
)

// What the tests of the edge look at from inside.

// RouteFact is a line of the route table.
type RouteFact struct {
	Method, Path, Scope string
	Keyed, Peer         bool
}

// RouteFacts lists the routes that the code serves.
func RouteFacts() []RouteFact {
	file, err := readOpenAPI()
	if err != nil {
		panic(err)
	}
	routes, err := guard((&Server{}).routes(), file)
	if err != nil {
		panic(err)
	}
	facts := make([]RouteFact, 0, len(routes))
	for _, r := range routes {
		facts = append(facts, RouteFact{r.method, r.path, r.access.need, r.keyed, r.access.peer})
	}
	return facts
}

// AccessOf tells what a file declares for a route: its alternatives, each with all scopes that it needs.
func AccessOf(file, method, path string) (string, error) {
	var read openAPIFile
	if err := yaml.Unmarshal([]byte(file), &read); err != nil {
		return "", err
	}
	routes, err := guard([]route{{method: method, path: path}}, &read)
	if err != nil {
		return "", err
	}
	switch a := routes[0].access; {
	case a.open:
		return "open", nil
	case a.peer:
		return "peer", nil
	default:
		var ways []string
		for _, scopes := range a.any {
			ways = append(ways, strings.Join(scopes.Names(), "+"))
		}
		return strings.Join(ways, "|"), nil
	}
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

// SetLogins gives a server that was made a provider to sign in at.
func (s *Server) SetLogins(logins Logins) { s.deps.Logins = logins }
