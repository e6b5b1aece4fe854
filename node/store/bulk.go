package store

import "fmt"

// bulk gathers the rows of one INSERT as the text that the server reads.
type bulk struct{ sqlText }

func (b *bulk) row(values ...any) {
	before := byte('(')
	if b.text == nil {
		b.sqlText = newText()
	} else {
		b.text = append(b.text, ',')
	}
	for _, value := range values {
		b.text = append(b.text, before)
		b.value(value)
		before = ','
	}
	b.text = append(b.text, ')')
}

// queue keeps the rows for the next flush; without any it does nothing. The bulk is empty after it.
func (b *bulk) queue(tx *Tx, insert, onDuplicate string) {
	switch {
	case b.err != nil:
		_ = tx.poison(fmt.Errorf("write the rows of %q: %w", insert, b.err))
	case len(b.text) > 0:
		tx.queue(insert + " VALUES " + b.take() + onDuplicate)
	}
}
