package audit_test

import (
	"context"
	"database/sql"
	"io/fs"
	"strings"
	"testing"
	"time"

	"lockstep/api/client"
	"lockstep/cluster/local/servers"
	"lockstep/examples/petstore/audit"
	"lockstep/examples/petstore/order"
	"lockstep/examples/petstore/product"
	"lockstep/examples/petstore/service"
)

// bank has a journal by hand, in pages of one.
type bank struct {
	transfers []client.Transfer
	posted    string
}

func (b *bank) Transfers(_ context.Context, f client.Filter, _ ...client.Option) (client.Transfers, error) {
	at := len(f.Cursor)
	if at >= len(b.transfers) {
		return client.Transfers{}, nil
	}
	return client.Transfers{Transfers: b.transfers[at : at+1], NextCursor: f.Cursor + "."}, nil
}

func (b *bank) Account(context.Context, string, ...client.Option) (client.Account, error) {
	return client.Account{Balance: client.Balance{Posted: b.posted}}, nil
}

func journal() *bank {
	return &bank{posted: "0.60", transfers: []client.Transfer{
		{ID: "t1", State: "posted", To: "shop", Reference: "paid"}, {ID: "t2", State: "voided", To: "shop", Reference: "failed"},
	}}
}

// agreed are books without a fault: an order that was paid, one that failed after its row, one that failed before it.
var agreed = [2][]string{
	{
		`INSERT INTO sagas (id, kind, state, next_at, data, created_at, updated_at) VALUES ('paid', 'order', 'done', NOW(), '', NOW(), NOW()),
			('failed', 'order', 'failed', NOW(), '', NOW(), NOW()), ('short', 'order', 'failed', NOW(), '', NOW(), NOW())`,
		`INSERT INTO orders (id, customer, wallet, reference, state, total, currency, transfer, created_at, updated_at)
			VALUES ('paid', 'c', 'w', '', 'paid', 60, 'USD', 't1', NOW(), NOW()), ('failed', 'c', 'w', '', 'failed', 20, 'USD', '', NOW(), NOW())`,
		`INSERT INTO order_lines (order_id, product, quantity, price) VALUES ('paid', 'a', 2, 20), ('paid', 'b', 1, 20), ('failed', 'a', 1, 20)`,
	},
	{
		`INSERT INTO products (id, name, price, stocked, stock) VALUES ('a', 'A', 20, 10, 8), ('b', 'B', 20, 10, 9)`,
		`INSERT INTO reservations (id, state, fingerprint, answer, created_at, updated_at) VALUES ('paid', 'sold', '', '', NOW(), NOW()),
			('failed', 'restored', '', '', NOW(), NOW()), ('short', 'refused', '', '', NOW(), NOW())`,
		`INSERT INTO reserved_items (reservation, product, quantity) VALUES ('paid', 'a', 2), ('paid', 'b', 1), ('failed', 'a', 1)`,
	},
}

func TestTheAuditorFindsWhatDoesNotAgree(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	orders, products := schema(ctx, t, order.Migrations()), schema(ctx, t, product.Migrations())
	for _, fault := range []struct {
		name             string
		orders, products string // what is changed
		bank             func(b *bank)
		breach           string // empty: there is none
	}{
		{name: "nothing"},
		{name: "an order without an end", orders: "UPDATE sagas SET state = 'parked' WHERE id = 'failed'", breach: "has no end"},
		{name: "a paid order whose row failed", orders: "UPDATE orders SET state = 'failed' WHERE id = 'paid'", breach: "row says"},
		{name: "a paid order without a row", orders: "DELETE FROM orders WHERE id = 'paid'", breach: "row says"},
		{name: "a payment that is missing", bank: func(b *bank) { b.transfers = b.transfers[1:] }, breach: "the journal has 0"},
		{name: "a payment of another id", orders: "UPDATE orders SET transfer = 't9' WHERE id = 'paid'", breach: "transfer t9"},
		{name: "a second payment", bank: func(b *bank) { b.transfers = append(b.transfers, b.transfers[0]) }, breach: "the journal has 2"},
		{name: "a payment of a failed order", bank: func(b *bank) { b.transfers[1].State = "posted" }, breach: "money was taken"},
		{name: "a payment of no order", bank: func(b *bank) {
			b.transfers = append(b.transfers, client.Transfer{ID: "t3", State: "posted", To: "shop", Reference: "x"})
		}, breach: "is no order"},
		{name: "money that is missing", bank: func(b *bank) { b.posted = "0.59" }, breach: "the shop has 59"},
		{name: "a failed order whose row is alive", orders: "UPDATE orders SET state = 'placed' WHERE id = 'failed'", breach: "row says"},
		{name: "goods kept for a failed order", products: "UPDATE reservations SET state = 'reserved' WHERE id = 'failed'", breach: `goods are "reserved"`},
		{name: "goods of a paid order that are not sold", products: "UPDATE reservations SET state = 'reserved' WHERE id = 'paid'", breach: `goods are "reserved"`},
		{name: "other goods than were ordered", products: "UPDATE reserved_items SET quantity = 3 WHERE reservation = 'paid' AND product = 'a'", breach: "was taken from the shelf"},
		{name: "goods for no order", products: "INSERT INTO reservations (id, state, fingerprint, answer, created_at, updated_at) VALUES ('x', 'reserved', '', '', NOW(), NOW())", breach: "is no order"},
		{name: "goods that are missing", products: "UPDATE products SET stock = 7 WHERE id = 'a'", breach: "of a 10 came in"},
		{name: "goods that are too many", products: "UPDATE products SET stock = 9 WHERE id = 'a'", breach: "of a 10 came in"},
	} {
		fill(ctx, t, orders, append([]string{"DELETE FROM sagas", "DELETE FROM orders", "DELETE FROM order_lines"}, agreed[0]...), fault.orders)
		fill(ctx, t, products, append([]string{"DELETE FROM products", "DELETE FROM reservations", "DELETE FROM reserved_items"}, agreed[1]...), fault.products)
		b := journal()
		if fault.bank != nil {
			fault.bank(b)
		}
		found, err := audit.Run(ctx, audit.Books{Orders: orders, Products: products, Bank: b, Account: "shop", Decimals: 2})
		if err != nil {
			t.Fatalf("%s: %v", fault.name, err)
		}
		all := strings.Join(found.Breaches, "; ")
		if !strings.Contains(all, fault.breach) || (fault.breach == "") != (all == "") {
			t.Errorf("%s: the auditor found %q", fault.name, all)
		}
		if fault.name == "nothing" && (found.Orders != 3 || found.Paid != 1 || found.Failed != 2 || found.Products != 2 || found.Taken != 60) {
			t.Errorf("the auditor counted %+v", found)
		}
	}
}

func schema(ctx context.Context, t *testing.T, migrations fs.FS) *sql.DB {
	t.Helper()
	db, err := service.Database(ctx, servers.Shared(t).Database(t).Migrate, migrations)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func fill(ctx context.Context, t *testing.T, db *sql.DB, statements []string, last string) {
	t.Helper()
	for _, statement := range append(statements, last) {
		if statement == "" {
			continue
		}
		if _, err := db.ExecContext(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}
