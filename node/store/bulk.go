package store

import (
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"reflect"
	"strconv"
	"time"
)

// bulk gathers the rows of one INSERT as the text that the server reads. Text and bytes are written as hexadecimal literals:
// nothing in them needs an escape, and MariaDB takes them as they are, where it converts every quoted text from the
// connection's character set and keeps a name for it; that halves what it spends on reading such a statement. In a comparison
// they would be bytes, which no index on text serves: there values stay parameters.
type bulk struct {
	rows []byte // each in parentheses, with commas between them
	err  error  // the first value that no column takes
}

func (b *bulk) row(values ...any) {
	before := byte('(')
	if len(b.rows) > 0 {
		b.rows = append(b.rows, ',')
	}
	for _, value := range values {
		b.rows = append(b.rows, before)
		b.value(value)
		before = ','
	}
	b.rows = append(b.rows, ')')
}

// queue keeps the rows for the next flush; without any it does nothing.
func (b *bulk) queue(tx *Tx, insert, onDuplicate string) {
	switch {
	case b.err != nil:
		tx.poison(fmt.Errorf("write the rows of %q: %w", insert, b.err))
	case len(b.rows) > 0:
		tx.queue(insert + " VALUES " + b.written() + onDuplicate)
	}
}

func (b *bulk) written() string { return string(b.rows) }

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
		b.rows = append(hex.AppendEncode(append(b.rows, "x'"...), v), '\'')
	case int64:
		b.rows = strconv.AppendInt(b.rows, v, 10)
	case int:
		b.rows = strconv.AppendInt(b.rows, int64(v), 10)
	case bool:
		b.rows = strconv.AppendBool(b.rows, v)
	case time.Time:
		b.rows = v.UTC().AppendFormat(b.rows, "'2006-01-02 15:04:05.000000'")
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

func (b *bulk) text(text string) {
	const digits = "0123456789abcdef"
	b.rows = append(b.rows, "x'"...)
	for i := range len(text) { // package hex would need a copy of it
		b.rows = append(b.rows, digits[text[i]>>4], digits[text[i]&15])
	}
	b.rows = append(b.rows, '\'')
}

func (b *bulk) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}
