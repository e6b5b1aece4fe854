package httpsig

import (
	"strconv"
	"strings"

	"github.com/dunglas/httpsfv"
)

// component is one part of a message that a signature covers (RFC 9421, section 2): a field, a member of a field that
// is a dictionary, or something derived, whose name starts with @. Two that are equal are the same component, in
// whatever order their parameters were written.
type component struct {
	name string
	key  string // of a member of a dictionary; empty: the whole field
	req  bool   // of the request, in a signature over its answer
}

// plain makes components without parameters.
func plain(names ...string) []component {
	list := make([]component, len(names))
	for i, name := range names {
		list[i].name = name
	}
	return list
}

func (c component) derived() bool { return strings.HasPrefix(c.name, "@") }

func (c component) item() httpsfv.Item {
	item := httpsfv.NewItem(c.name)
	if c.req {
		item.Params.Add("req", true)
	}
	if c.key != "" {
		item.Params.Add("key", c.key)
	}
	return item
}

// String is the component's identifier, for reasons in errors.
func (c component) String() string {
	text, err := httpsfv.Marshal(c.item())
	if err != nil {
		return strconv.Quote(c.name)
	}
	return text
}

// parseComponents reads the list of what a signature covers. A component that occurs twice makes the signature invalid
// (section 2.5), and so does one that we could not compute, for then nobody can say what was signed.
func parseComponents(items []httpsfv.Item) ([]component, error) {
	list := make([]component, 0, len(items))
	seen := make(map[component]bool, len(items))
	for _, item := range items {
		c, err := parseComponent(item)
		if err != nil {
			return nil, err
		}
		if seen[c] {
			return nil, invalid("it covers %s twice", c)
		}
		seen[c] = true
		list = append(list, c)
	}
	return list, nil
}

func parseComponent(item httpsfv.Item) (component, error) {
	name, ok := item.Value.(string)
	if !ok || !isComponentName(name) {
		return component{}, invalid("it covers %v, which is no name of a component", item.Value)
	}
	c := component{name: name}
	for _, param := range item.Params.Names() {
		value, _ := item.Params.Get(param)
		text, isText := value.(string)
		switch {
		case param == "req" && value == true:
			c.req = true
		case param == "key" && isText && text != "" && !c.derived():
			c.key = text
		default:
			return component{}, invalid("it covers %q with the parameter %s, which is not supported", name, param)
		}
	}
	return c, nil
}

// isComponentName tells names of fields in lower case (section 2.1) and of derived components. A name in upper case
// would be a second way to write the same component.
func isComponentName(name string) bool {
	name = strings.TrimPrefix(name, "@")
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return name != ""
}

// value computes what the component stands for in this message (sections 2.1 and 2.2).
func (m message) value(c component) (string, error) {
	value, err := m.rawValue(c)
	if err != nil {
		return "", err
	}
	if c.derived() && value == "" {
		return "", invalid("%s is empty", c)
	}
	// A line end within a value would let one component pass for several; the rest of the rule is that a signature base
	// is ASCII (section 2.5).
	for i := range len(value) {
		if b := value[i]; (b < ' ' && b != '\t') || b > '~' {
			return "", invalid("%s holds the byte %#02x", c, b)
		}
	}
	return value, nil
}

func (m message) rawValue(c component) (string, error) {
	switch {
	case c.req && m.response == nil:
		return "", invalid("it covers %s, but there is no answer", c)
	case c.req || m.response == nil:
		return requestValue(m.request, c)
	case c.name == "@status":
		return statusValue(m.response.Status)
	case c.derived():
		return "", invalid("it covers %s, which an answer does not have", c)
	default:
		return fieldValue(m.response.Header, c)
	}
}

func requestValue(r Request, c component) (string, error) {
	path := r.Path
	if path == "" {
		path = "/" // as in the request line
	}
	if path[0] != '/' || strings.ContainsAny(path, "?#") {
		return "", invalid("%q is not a path", path)
	}
	switch c.name {
	case "@method":
		return r.Method, nil
	case "@authority":
		return lower(r.Authority), nil
	case "@path":
		return path, nil
	case "@query":
		return "?" + r.RawQuery, nil // also without a query (section 2.2.7)
	case "@request-target":
		return strings.TrimSuffix(path+"?"+r.RawQuery, "?"), nil
	}
	if c.derived() {
		return "", invalid("it covers %s, which is not supported", c)
	}
	return fieldValue(r.Header, c)
}

func statusValue(status int) (string, error) {
	if status < 100 || status > 999 {
		return "", invalid("%d is not a status", status)
	}
	return strconv.Itoa(status), nil
}

// fieldValue is the field's lines, each trimmed and unfolded, with commas between them (section 2.1), or the member of
// a dictionary, written anew (section 2.1.2).
func fieldValue(header Header, c component) (string, error) {
	lines := header.Values(c.name)
	if len(lines) == 0 {
		return "", invalid("the message has no %s, which has to be covered", c.name)
	}
	if c.key == "" {
		return canonical(lines), nil
	}
	fields, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return "", invalid("%s is not a dictionary: %v", c.name, err)
	}
	member, ok := fields.Get(c.key)
	if !ok {
		return "", invalid("%s has no member %q", c.name, c.key)
	}
	value, ok := member.(httpsfv.StructuredFieldValue)
	if !ok {
		return "", invalid("%s has a member %q of an unknown kind", c.name, c.key)
	}
	text, err := httpsfv.Marshal(value)
	if err != nil {
		return "", invalid("%s cannot be written: %v", c, err)
	}
	return text, nil
}

func canonical(lines []string) string {
	trimmed := make([]string, len(lines))
	for i, line := range lines {
		trimmed[i] = strings.Trim(unfold(line), " \t\r\n")
	}
	return strings.Join(trimmed, ", ")
}

// unfold replaces each line end that is followed by white space, with the white space around it, by one space. Other
// line ends stay, and are refused with the value.
func unfold(line string) string {
	if !strings.Contains(line, "\n") {
		return line
	}
	parts := strings.Split(line, "\n")
	out := parts[0]
	for _, part := range parts[1:] {
		if rest := strings.TrimLeft(part, " \t"); rest != part {
			out = strings.TrimRight(out, " \t\r") + " " + rest
			continue
		}
		out += "\n" + part
	}
	return out
}

// lower changes ASCII only: other letters have no place in an authority, and folding them could make two names one.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
