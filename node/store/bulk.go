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

// bulk gathers the rows of one INSERT as the text that the server reads. Text and bytes are written as hexadecimal literals:
// nothing in them needs an escape, and MariaDB takes them as they are, where it converts every quoted text from the
// connection's character set and keeps a name for it; that halves what it spends on reading such a statement. In a comparison
// they would be bytes, which no index on text serves: there values stay parameters.
type bulk struct {
	rows []byte // each in parentheses, with commas between them
	err  error  // the first value that no column takes

	at      time.Time // the last one that was written: the rows of a batch have one time, as a rule
	written []byte    // as text
}

// bulkRooms are those of bulks that were queued: rows of a batch take a hundred thousand bytes, which to find anew each time, larger
// and larger, costs more than to write them.
var bulkRooms = sync.Pool{New: func() any { return new([]byte) }}

const bulkRoomMax = 4 << 20 // what is larger is left to the collector

func (b *bulk) row(values ...any) {
	before := byte('(')
	switch {
	case b.rows == nil:
		b.rows = (*bulkRooms.Get().(*[]byte))[:0]
	case len(b.rows) > 0:
		b.rows = append(b.rows, ',')
	}
	for _, value := range values {
		b.rows = append(b.rows, before)
		b.value(value)
		before = ','
	}
	b.rows = append(b.rows, ')')
}

// queue keeps the rows for the next flush; without any it does nothing. The bulk is empty after it.
func (b *bulk) queue(tx *Tx, insert, onDuplicate string) {
	switch {
	case b.err != nil:
		_ = tx.poison(fmt.Errorf("write the rows of %q: %w", insert, b.err))
	case len(b.rows) > 0:
		tx.queue(insert + " VALUES " + b.take() + onDuplicate)
	}
}

// take hands the rows out, and their room on.
func (b *bulk) take() string {
	text, room := string(b.rows), b.rows
	if b.rows = nil; cap(room) <= bulkRoomMax {
		bulkRooms.Put(&room)
	}
	return text
}

// value writes one column of a row.
func (b *bulk) value(value any) {
	switch v := value.(type) {
	case nil:
		b.rows = append(b.rows, "NULL"...)
	case string:
		b.text(v)
	case []byte:
		if v == nil {
			b.value(nil)
			return
		}
		b.rows = appendHex(b.rows, v)
	case int64:
		b.rows = strconv.AppendInt(b.rows, v, 10)
	case int:
		b.rows = strconv.AppendInt(b.rows, int64(v), 10)
	case bool:
		b.rows = strconv.AppendBool(b.rows, v)
	case time.Time:
		if len(b.written) == 0 || v != b.at {
			b.at, b.written = v, v.UTC().AppendFormat(b.written[:0], "'2006-01-02 15:04:05.000000'")
		}
		b.rows = append(b.rows, b.written...)
	case driver.Valuer:
		plain, err := v.Value()
		if err != nil {
			b.fail(err)
			return
		}
		b.value(plain)
	default:
		b.named(reflect.ValueOf(value))
	}
}

// named writes a value of a type that has a name, such as an id or a currency.
func (b *bulk) named(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		b.text(v.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		b.rows = strconv.AppendInt(b.rows, v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		b.rows = strconv.AppendUint(b.rows, v.Uint(), 10)
	default:
		b.fail(fmt.Errorf("no column takes a %s", v.Type()))
	}
}

func (b *bulk) text(text string) { b.rows = appendHex(b.rows, text) }

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

func (b *bulk) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// compared writes a value where it may stand in a comparison, if it is of a kind that needs no escape; false leaves it to the
// driver. A text is quoted as the driver does it, so that an index serves it.
func (b *bulk) compared(value any) bool {
	switch v := value.(type) {
	case nil, int, int64, bool:
	case time.Time:
		if v.IsZero() {
			return false
		}
	case driver.Valuer:
		plain, err := v.Value()
		return err == nil && b.compared(plain)
	case string:
		return b.quoted(v)
	default:
		named := reflect.ValueOf(value)
		switch {
		case named.Kind() == reflect.String:
			return b.quoted(named.String())
		case !named.CanInt():
			return false
		}
	}
	b.value(value)
	return true
}

// quoted writes a text of letters, digits and a few signs.
func (b *bulk) quoted(text string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:", r)
	}
	if strings.ContainsFunc(text, odd) {
		return false
	}
	b.rows = append(append(append(b.rows, '\''), text...), '\'')
	return true
}

// filled writes a statement with its arguments in the places of its question marks, of which it has no others; false when one
// of them is not to be written here.
func (s *statement) filled(to *bulk) bool {
	rest := s.query
	for _, arg := range s.args {
		before, after, found := strings.Cut(rest, "?")
		to.rows = append(to.rows, before...)
		if rest = after; !found || !to.compared(arg) {
			return false
		}
	}
	to.rows = append(to.rows, rest...)
	return len(s.args) == 0 || !strings.Contains(rest, "?")
}
