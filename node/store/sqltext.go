package store

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sqlText is text for the server with values written into it. What goes into a row is written as hexadecimal literals if it is text
// or bytes: nothing in them needs an escape, and MariaDB takes them as they are, where it converts every quoted text from the
// connection's character set and keeps a name for it; that halves what it spends on reading such a statement. In a comparison
// they would be bytes, which no index on text serves: there text is quoted.
type sqlText struct {
	text []byte
	err  error // the first value that no column takes

	at      time.Time // the last one that was written: the rows of a batch have one time, as a rule
	written []byte    // as text
}

// textRooms are those of texts that were taken: rows of a batch take a hundred thousand bytes, which to find anew each time, larger
// and larger, costs more than to write them.
var textRooms = sync.Pool{New: func() any { return new([]byte) }}

const textRoomMax = 4 << 20 // what is larger is left to the collector

func newText() sqlText { return sqlText{text: (*textRooms.Get().(*[]byte))[:0]} }

// take hands the text out, and its room on.
func (s *sqlText) take() string {
	text, room := string(s.text), s.text
	if s.text = nil; cap(room) <= textRoomMax {
		textRooms.Put(&room)
	}
	return text
}

// value writes one column of a row.
func (s *sqlText) value(value any) {
	switch v := value.(type) {
	case nil:
		s.text = append(s.text, "NULL"...)
	case string:
		s.hex(v)
	case []byte:
		if v == nil {
			s.value(nil)
			return
		}
		s.text = appendHex(s.text, v)
	case int64:
		s.text = strconv.AppendInt(s.text, v, 10)
	case int:
		s.text = strconv.AppendInt(s.text, int64(v), 10)
	case bool:
		s.text = strconv.AppendBool(s.text, v)
	case time.Time:
		if len(s.written) == 0 || v != s.at {
			s.at, s.written = v, v.UTC().AppendFormat(s.written[:0], "'2006-01-02 15:04:05.000000'")
		}
		s.text = append(s.text, s.written...)
	case driver.Valuer:
		plain, err := v.Value()
		if err != nil {
			s.fail(err)
			return
		}
		s.value(plain)
	default:
		s.named(reflect.ValueOf(value))
	}
}

// named writes a value of a type that has a name, such as an id or a currency.
func (s *sqlText) named(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		s.hex(v.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.text = strconv.AppendInt(s.text, v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s.text = strconv.AppendUint(s.text, v.Uint(), 10)
	default:
		s.fail(fmt.Errorf("no column takes a %s", v.Type()))
	}
}

func (s *sqlText) hex(text string) { s.text = appendHex(s.text, text) }

func appendHex[T string | []byte](to []byte, value T) []byte {
	const digits = "0123456789abcdef"
	to = append(to, "x'"...)
	at := len(to)
	to = slices.Grow(to, 2*len(value)+1)[:at+2*len(value)]
	for i := range len(value) {
		to[at+2*i], to[at+2*i+1] = digits[value[i]>>4], digits[value[i]&15]
	}
	return append(to, '\'')
}

func (s *sqlText) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// compared writes a value where it may stand in a comparison, if it is of a kind that needs no escape; false leaves it to the
// driver. A text is quoted as the driver does it, so that an index serves it.
func (s *sqlText) compared(value any) bool {
	switch v := value.(type) {
	case nil, int, int64, bool:
	case time.Time:
		if v.IsZero() {
			return false
		}
	case driver.Valuer:
		plain, err := v.Value()
		return err == nil && s.compared(plain)
	case []byte: // of a binary column, in a comparison as well
		if v == nil {
			return false
		}
	case string:
		return s.quoted(v)
	default:
		named := reflect.ValueOf(value)
		switch {
		case named.Kind() == reflect.String:
			return s.quoted(named.String())
		case !named.CanInt():
			return false
		}
	}
	s.value(value)
	return true
}

// quoted writes a text of letters, digits and a few signs.
func (s *sqlText) quoted(text string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:", r)
	}
	if strings.ContainsFunc(text, odd) {
		return false
	}
	s.text = append(append(append(s.text, '\''), text...), '\'')
	return true
}

// statement writes a statement with its arguments in the places of its question marks, of which it has no others; false when one
// of them is not to be written here.
func (s *sqlText) statement(of statement) bool {
	rest := of.query
	for _, arg := range of.args {
		before, after, found := strings.Cut(rest, "?")
		s.text = append(s.text, before...)
		if rest = after; !found || !s.compared(arg) {
			return false
		}
	}
	s.text = append(s.text, rest...)
	return len(of.args) == 0 || !strings.Contains(rest, "?")
}
