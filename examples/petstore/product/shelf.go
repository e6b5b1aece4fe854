package product

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"

	"lockstep/examples/petstore/service"
	"lockstep/examples/petstore/stock"
	"lockstep/saga"
)

// Product is one kind of goods. Stocked less Stock is reserved or sold.
type Product struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Price   int64  `json:"price"`   // of one, in the smallest unit of the store's currency
	Stocked int64  `json:"stocked"` // all that ever came in
	Stock   int64  `json:"stock"`   // on the shelf
}

// Stock says how many of a product ever came in; more than before puts the rest on the shelf. Name and price change too, for
// reservations to come. It may be repeated.
func (s *Store) Stock(ctx context.Context, p Product) error {
	if _, err := stock.Check([]stock.Item{{Product: p.ID, Quantity: 1}}); err != nil || p.Price <= 0 || p.Stocked < 0 {
		return service.Refuse(http.StatusUnprocessableEntity, "invalid_product", "A product has an id of visible characters, a price and a number.")
	}
	err := service.Within(ctx, s.db, func(tx saga.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO products (id, name, price, stocked, stock) VALUES (?, ?, ?, 0, 0)
			ON DUPLICATE KEY UPDATE name = VALUES(name), price = VALUES(price)`, p.ID, p.Name, p.Price)
		if err != nil {
			return err
		}
		var stocked, left int64
		err = tx.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&stocked, &left) },
			`SELECT stocked, stock FROM products WHERE id = ? FOR UPDATE`, p.ID)
		switch {
		case err != nil:
			return err
		case left+p.Stocked-stocked < 0:
			return service.Refuse(http.StatusConflict, "goods_gone", "More than that is reserved or sold.")
		}
		_, err = tx.Exec(ctx, `UPDATE products SET stock = ?, stocked = ? WHERE id = ?`, left+p.Stocked-stocked, p.Stocked, p.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("stock %s: %w", p.ID, err)
	}
	return nil
}

// pageMax is how many rows one page shows.
const pageMax = 200

// Shelf lists products by id.
func (s *Store) Shelf(ctx context.Context) (all []Product, err error) {
	err = service.Within(ctx, s.db, func(tx saga.Tx) error {
		return tx.Query(ctx, func(rows *sql.Rows) error {
			var p Product
			err := rows.Scan(&p.ID, &p.Name, &p.Price, &p.Stocked, &p.Stock)
			all = append(all, p)
			return err
		}, `SELECT id, name, price, stocked, stock FROM products ORDER BY id LIMIT ?`, pageMax)
	})
	return all, err
}

// Log lists the latest reservations.
func (s *Store) Log(ctx context.Context) (all []stock.Reservation, err error) {
	err = service.Within(ctx, s.db, func(tx saga.Tx) error {
		return tx.Query(ctx, func(rows *sql.Rows) error {
			found, _, err := scan(rows)
			all = append(all, found)
			return err
		}, columns+`ORDER BY created_at DESC LIMIT ?`, pageMax)
	})
	return all, err
}
