package product

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"lockstep/examples/petstore/courier"
	"lockstep/examples/petstore/service"
	"lockstep/examples/petstore/stock"
	"lockstep/saga"
)

//go:embed migrations/*.sql
var embedded embed.FS

// Migrations are the tables of the service.
func Migrations() fs.FS {
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		panic("product: its migrations are not embedded") // our bug: the path is a constant
	}
	return files
}

// step names the reservation to the barrier: to reserve is its do, to give back its undo.
const step = "reserve"

// Store keeps the shelf and the log of what was asked of it. Each method is one transaction; all of them lock in one order:
// receipt, barrier, reservation, products by id.
type Store struct{ db saga.Database }

// NewStore makes a store of a migrated database.
func NewStore(db *sql.DB) *Store { return &Store{saga.SQL(db)} }

// Reserve takes all items from the shelf, or none and tells of each that is short, and logs the answer under the id. A
// repeat is answered by the present state. After the order's failure has come, nothing is taken any more.
func (s *Store) Reserve(ctx context.Context, asked stock.Request) (answer stock.Reservation, err error) {
	items, err := stock.Check(asked.Items)
	if err != nil {
		return answer, service.Refuse(http.StatusUnprocessableEntity, "invalid_items", err.Error())
	}
	mark, err := fingerprint(items)
	if err != nil {
		return answer, err
	}
	err = service.Within(ctx, s.db, func(tx saga.Tx) error {
		entry, err := saga.Enter(ctx, tx, asked.ID, step, saga.Do)
		if err != nil {
			return err
		}
		if entry == saga.First {
			if answer, err = take(ctx, tx, asked.ID, items); err != nil {
				return err
			}
			return logAnswer(ctx, tx, answer, mark)
		}
		known, before, err := read(ctx, tx, asked.ID, true)
		if err == nil && before != "" && before != mark {
			err = service.Refuse(http.StatusUnprocessableEntity, "id_reused", "Something else was reserved under this id.")
		}
		answer = known
		return err
	})
	if err != nil {
		return stock.Reservation{}, fmt.Errorf("reserve for %s: %w", asked.ID, err)
	}
	return answer, nil
}

// Find reads the log. service.NotFound says that the request has not arrived, or not committed, so far.
func (s *Store) Find(ctx context.Context, id string) (found stock.Reservation, err error) {
	err = service.Within(ctx, s.db, func(tx saga.Tx) error {
		found, _, err = read(ctx, tx, id, false)
		return err
	})
	return found, err
}

// Apply has the effect of news about an order, once.
func (s *Store) Apply(ctx context.Context, news courier.News) error {
	err := service.Within(ctx, s.db, func(tx saga.Tx) error {
		first, err := saga.Receive(ctx, tx, "product", news.ID)
		if err != nil || !first {
			return err
		}
		if news.Kind == courier.OrderPaid {
			return sell(ctx, tx, news.Order)
		}
		return giveBack(ctx, tx, news)
	})
	if err != nil {
		return fmt.Errorf("%s of %s: %w", news.Kind, news.Order, err)
	}
	return nil
}

// take reserves or refuses. The products are locked in the order of their ids, so that no two orders wait for each other.
func take(ctx context.Context, tx saga.Tx, id string, items []stock.Item) (stock.Reservation, error) {
	shelf, err := lock(ctx, tx, items)
	if err != nil {
		return stock.Reservation{}, err
	}
	answer := stock.Reservation{ID: id, State: stock.Reserved}
	for _, item := range items {
		found, known := shelf[item.Product]
		if !known || found.stock < item.Quantity {
			answer.Shortages = append(answer.Shortages, stock.Shortage{Item: item, Available: found.stock, Unknown: !known})
		}
		answer.Lines = append(answer.Lines, stock.Line{Item: item, Price: found.price})
	}
	if len(answer.Shortages) > 0 {
		answer.State, answer.Lines, answer.Why = stock.Refused, nil, fmt.Sprintf("%d of %d items are short.", len(answer.Shortages), len(items))
		return answer, nil
	}
	if answer.Total, err = stock.Total(answer.Lines); err != nil {
		return answer, service.Refuse(http.StatusUnprocessableEntity, "total_out_of_range", err.Error())
	}
	args := []any{}
	for _, item := range items {
		args = append(args, id, item.Product, item.Quantity)
	}
	_, err = tx.Exec(ctx, `INSERT INTO reserved_items (reservation, product, quantity) VALUES `+list("(?, ?, ?)", len(items)), args...)
	if err != nil {
		return answer, err
	}
	return answer, move(ctx, tx, id, "-")
}

type shelved struct{ price, stock int64 }

// lock keeps the products from all others until the transaction ends; items are sorted by product.
func lock(ctx context.Context, tx saga.Tx, items []stock.Item) (map[string]shelved, error) {
	var ids []any
	for _, item := range items {
		ids = append(ids, item.Product)
	}
	shelf := map[string]shelved{}
	err := tx.Query(ctx, func(rows *sql.Rows) error {
		var id string
		var found shelved
		err := rows.Scan(&id, &found.price, &found.stock)
		shelf[id] = found
		return err
	}, `SELECT id, price, stock FROM products FORCE INDEX (PRIMARY) WHERE id IN (`+list("?", len(ids))+`) ORDER BY id FOR UPDATE`, ids...)
	return shelf, err
}

// move takes what a reservation lists from the shelf, or puts it back there. The products are locked already.
func move(ctx context.Context, tx saga.Tx, reservation, sign string) error {
	_, err := tx.Exec(ctx, `UPDATE reserved_items FORCE INDEX (PRIMARY) STRAIGHT_JOIN products FORCE INDEX (PRIMARY) ON products.id = reserved_items.product
		SET products.stock = products.stock `+sign+` reserved_items.quantity WHERE reserved_items.reservation = ?`, reservation)
	return err
}

func giveBack(ctx context.Context, tx saga.Tx, news courier.News) error {
	entry, err := saga.Enter(ctx, tx, news.Order, step, saga.Undo)
	switch {
	case err != nil || entry == saga.Repeated:
		return err
	case entry == saga.Empty: // the request has not arrived: when it does, it finds the door closed
		return logAnswer(ctx, tx, stock.Reservation{ID: news.Order, State: stock.Closed, Why: news.Why}, "")
	}
	found, _, err := read(ctx, tx, news.Order, true)
	switch {
	case err != nil:
		return err
	case found.State == stock.Refused: // nothing was taken
		return nil
	case found.State != stock.Reserved:
		return fmt.Errorf("its goods are %s", found.State)
	}
	items := make([]stock.Item, len(found.Lines))
	for i, line := range found.Lines {
		items[i] = line.Item
	}
	if _, err := lock(ctx, tx, items); err != nil {
		return err
	}
	if err := move(ctx, tx, news.Order, "+"); err != nil {
		return err
	}
	return mark(ctx, tx, news.Order, stock.Restored, news.Why)
}

func sell(ctx context.Context, tx saga.Tx, order string) error {
	found, _, err := read(ctx, tx, order, true)
	switch {
	case err != nil:
		return err
	case found.State != stock.Reserved:
		return fmt.Errorf("its goods are %s", found.State)
	}
	return mark(ctx, tx, order, stock.Sold, "")
}

func mark(ctx context.Context, tx saga.Tx, id string, state stock.State, why string) error {
	_, err := tx.Exec(ctx, `UPDATE reservations SET state = ?, why = LEFT(?, 500), updated_at = UTC_TIMESTAMP(6) WHERE id = ?`, state, why, id)
	return err
}

func logAnswer(ctx context.Context, tx saga.Tx, answer stock.Reservation, mark string) error {
	text, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO reservations (id, state, fingerprint, answer, why, created_at, updated_at)
		VALUES (?, ?, ?, ?, LEFT(?, 500), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))`, answer.ID, answer.State, mark, text, answer.Why)
	return err
}

const columns = "SELECT id, state, fingerprint, answer, why, created_at, updated_at FROM reservations "

// read finds a reservation as it is now, with the fingerprint of what was asked for.
func read(ctx context.Context, tx saga.Tx, id string, locked bool) (found stock.Reservation, mark string, err error) {
	query, there := columns+"WHERE id = ?", false
	if locked {
		query += " FOR UPDATE"
	}
	err = tx.Query(ctx, func(rows *sql.Rows) (err error) {
		there = true
		found, mark, err = scan(rows)
		return err
	}, query, id)
	if err == nil && !there {
		err = service.Refuse(http.StatusNotFound, service.NotFound, "No request with this id has arrived so far.")
	}
	return found, mark, err
}

func scan(rows *sql.Rows) (found stock.Reservation, mark string, err error) {
	var present stock.Reservation
	var answer []byte
	if err := rows.Scan(&present.ID, &present.State, &mark, &answer, &present.Why, &present.CreatedAt, &present.UpdatedAt); err != nil {
		return found, "", err
	}
	if err := json.Unmarshal(answer, &found); err != nil {
		return found, "", fmt.Errorf("read the logged answer: %w", err)
	}
	found.ID, found.State, found.Why, found.CreatedAt, found.UpdatedAt = present.ID, present.State, present.Why, present.CreatedAt, present.UpdatedAt
	return found, mark, nil
}

// fingerprint tells whether two requests ask for the same.
func fingerprint(items []stock.Item) (string, error) {
	text, err := json.Marshal(items)
	if err != nil {
		return "", fmt.Errorf("encode the items: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

func list(part string, n int) string { return strings.TrimSuffix(strings.Repeat(part+", ", n), ", ") }
