package api

import (
	"encoding/base64"
	"strconv"
	"strings"

	"lockstep/node/ledger"
)

// Bounds of pages.
const (
	pageDefault    = 50
	pageMax        = 200
	cursorBytesMax = 2000 // of a list that is merged from many accounts
)

// cursor says where the next page of a list begins. It is opaque to clients: base64url of "1", the list and the last
// item's position. A list's name includes what it is a list of, so that a cursor fits no other one. It grants nothing:
// whoever uses it is asked for scope and ownership as for the first page.
type cursor struct{ list, position string }

const cursorSeparator = "\n"

func (c cursor) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte("1" + cursorSeparator + c.list + cursorSeparator + c.position))
}

// parseCursor reads what String wrote; it refuses everything else with InvalidRequest.
func parseCursor(text string) (cursor, error) {
	if len(text) > cursorBytesMax {
		return cursor{}, badCursor()
	}
	plain, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return cursor{}, badCursor()
	}
	parts := strings.Split(string(plain), cursorSeparator)
	if len(parts) != 3 || parts[0] != "1" || parts[1] == "" || parts[2] == "" {
		return cursor{}, badCursor()
	}
	read := cursor{list: parts[1], position: parts[2]}
	if read.String() != text { // the decoder overlooks line breaks
		return cursor{}, badCursor()
	}
	return read, nil
}

func badCursor() error {
	return ledger.Refuse(ledger.InvalidRequest, "the cursor is not one of this list; begin again without it")
}

// page is the part of a list that a request asks for.
type page struct {
	list     string
	position string // after which the page begins; "" is the beginning
	limit    int
}

// page reads limit and cursor of the request.
func (x *exchange) page(list string) (page, error) {
	asked := page{list: list, limit: pageDefault}
	if limit := x.fiber.Query("limit"); limit != "" {
		number, err := strconv.Atoi(limit)
		if err != nil || number < 1 || number > pageMax {
			return page{}, ledger.Refuse(ledger.InvalidRequest, "limit is 1 to %d", pageMax)
		}
		asked.limit = number
	}
	if text := x.fiber.Query("cursor"); text != "" {
		read, err := parseCursor(text)
		if err != nil {
			return page{}, err
		}
		if read.list != list {
			return page{}, badCursor()
		}
		asked.position = read.position
	}
	return asked, nil
}

// number is the position in a list whose positions are positive integers; 0 at the beginning.
func (p page) number() (int64, error) {
	if p.position == "" {
		return 0, nil
	}
	number, err := strconv.ParseInt(p.position, 10, 64)
	if err != nil || number < 1 {
		return 0, badCursor()
	}
	return number, nil
}

// cut takes the item off that was read beyond the page to learn whether there is a next one, and makes its cursor.
func cut[T any](p page, items []T, position func(T) string) ([]T, *string) {
	if len(items) <= p.limit {
		return items, nil
	}
	items = items[:p.limit]
	return items, p.next(position(items[p.limit-1]))
}

// next is the cursor of the page that begins behind the position; nil behind the last one.
func (p page) next(position string) *string {
	if position == "" {
		return nil
	}
	text := cursor{list: p.list, position: position}.String()
	return &text
}
