// Package audit holds what the pet store's two services and the payment system remember against each other. It reads their
// databases and the journal; it believes no service's word.
package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"lockstep/api/client"
)

// Bank is what the auditor reads of the payment system; *client.Client is one.
type Bank interface {
	Transfers(ctx context.Context, filter client.Filter, options ...client.Option) (client.Transfers, error)
	Account(ctx context.Context, number string, options ...client.Option) (client.Account, error)
}

// Books are what there is to compare. The bank's client sees the shop's account.
type Books struct {
	Orders, Products *sql.DB
	Bank             Bank
	Account          string // the shop's
	Decimals         int    // of its currency's smallest unit
}

// Found is what was compared.
type Found struct {
	Orders, Paid, Failed int // orders that were taken, and how they ended
	Products             int
	Taken                int64 // money, in the smallest unit
	Breaches             []string
}

// order is what the order service remembers of one.
type order struct {
	saga, state, transfer string // state is empty without a row
	total                 int64
	lines                 string
}

// reservation is what the product service remembers of one.
type reservation struct{ state, lines string }

// Run compares everything. It is to be called when nothing is under way: an order that is not final is a breach.
func Run(ctx context.Context, books Books) (Found, error) {
	orders, err := books.orders(ctx)
	if err != nil {
		return Found{}, fmt.Errorf("audit the orders: %w", err)
	}
	reservations, err := books.reservations(ctx)
	if err != nil {
		return Found{}, fmt.Errorf("audit the reservations: %w", err)
	}
	payments, err := books.payments(ctx)
	if err != nil {
		return Found{}, fmt.Errorf("audit the payments: %w", err)
	}
	found := Found{Orders: len(orders)}
	for _, id := range slices.Sorted(maps.Keys(orders)) {
		found.judge(id, orders[id], reservations[id], payments[id])
	}
	for id, r := range reservations {
		if _, known := orders[id]; !known && (r.state == "reserved" || r.state == "sold") {
			found.breach("goods are %s for %s, which is no order", r.state, id)
		}
	}
	for reference, transfers := range payments {
		if _, known := orders[reference]; !known {
			found.breach("%d payments came for %q, which is no order", len(transfers), reference)
		}
	}
	if err := books.shelf(ctx, &found); err != nil {
		return Found{}, fmt.Errorf("audit the shelf: %w", err)
	}
	if err := books.money(ctx, &found); err != nil {
		return Found{}, fmt.Errorf("audit the money: %w", err)
	}
	return found, nil
}

func (f *Found) breach(format string, args ...any) {
	f.Breaches = append(f.Breaches, fmt.Sprintf(format, args...))
}

// judge compares one order over all three.
func (f *Found) judge(id string, o order, r reservation, transfers []client.Transfer) {
	switch o.saga {
	case "done":
		f.Paid++
		f.Taken += o.total
		switch {
		case o.state != "paid":
			f.breach("order %s is paid, and its row says %q", id, o.state)
		case len(transfers) != 1 || transfers[0].ID != o.transfer:
			f.breach("order %s is paid by transfer %s, the journal has %d for it", id, o.transfer, len(transfers))
		case r.state != "sold":
			f.breach("order %s is paid, and its goods are %q", id, r.state)
		case r.lines != o.lines:
			f.breach("order %s sold %s, and %s was taken from the shelf", id, o.lines, r.lines)
		}
	case "failed":
		f.Failed++
		switch {
		case o.state != "" && o.state != "failed":
			f.breach("order %s has failed, and its row says %q", id, o.state)
		case len(transfers) != 0:
			f.breach("order %s has failed, and money was taken for it", id)
		case r.state != "refused" && r.state != "restored" && r.state != "closed":
			f.breach("order %s has failed, and its goods are %q", id, r.state)
		}
	default:
		f.breach("order %s is %s: it has no end", id, o.saga)
	}
}

const lines = "GROUP_CONCAT(product, '*', quantity ORDER BY product SEPARATOR ' ')"

func (b Books) orders(ctx context.Context) (map[string]order, error) {
	all := map[string]order{}
	return all, each(ctx, b.Orders, func(rows *sql.Rows) error {
		var id string
		var o order
		err := rows.Scan(&id, &o.saga, &o.state, &o.transfer, &o.total, &o.lines)
		all[id] = o
		return err
	}, `SELECT sagas.id, sagas.state, COALESCE(orders.state, ''), COALESCE(transfer, ''), COALESCE(total, 0),
		COALESCE((SELECT `+lines+` FROM order_lines WHERE order_id = sagas.id), '') FROM sagas LEFT JOIN orders ON orders.id = sagas.id`)
}

func (b Books) reservations(ctx context.Context) (map[string]reservation, error) {
	all := map[string]reservation{}
	return all, each(ctx, b.Products, func(rows *sql.Rows) error {
		var id string
		var r reservation
		err := rows.Scan(&id, &r.state, &r.lines)
		all[id] = r
		return err
	}, `SELECT id, state, COALESCE((SELECT `+lines+` FROM reserved_items WHERE reservation = reservations.id), '') FROM reservations`)
}

// payments are the transfers to the shop, by reference.
func (b Books) payments(ctx context.Context) (map[string][]client.Transfer, error) {
	const pageMax = 200
	all := map[string][]client.Transfer{}
	for page := (client.Page{Limit: pageMax}); ; {
		answer, err := b.Bank.Transfers(ctx, client.Filter{Account: b.Account, Page: page}, client.Fresh())
		if err != nil {
			return nil, err
		}
		for _, t := range answer.Transfers {
			if t.To == b.Account && t.State == "posted" {
				all[t.Reference] = append(all[t.Reference], t)
			}
		}
		if page.Cursor = answer.NextCursor; page.Cursor == "" {
			return all, nil
		}
	}
}

// shelf sums up every product: what came in is there, or reserved, or sold.
func (b Books) shelf(ctx context.Context, found *Found) error {
	return each(ctx, b.Products, func(rows *sql.Rows) error {
		var id string
		var stocked, stock, out int64
		err := rows.Scan(&id, &stocked, &stock, &out)
		found.Products++
		if stock < 0 || stock+out != stocked {
			found.breach("of %s %d came in, %d are on the shelf and %d out", id, stocked, stock, out)
		}
		return err
	}, `SELECT id, stocked, stock, (SELECT COALESCE(SUM(quantity), 0) FROM reserved_items JOIN reservations ON reservations.id = reservation
		WHERE product = products.id AND state IN ('reserved', 'sold')) FROM products`)
}

// money compares the shop's balance with what the orders cost.
func (b Books) money(ctx context.Context, found *Found) error {
	account, err := b.Bank.Account(ctx, b.Account, client.Fresh())
	if err != nil {
		return err
	}
	whole, part, _ := strings.Cut(account.Balance.Posted, ".")
	posted, err := strconv.ParseInt(whole+part+strings.Repeat("0", max(b.Decimals-len(part), 0)), 10, 64)
	if err != nil {
		return fmt.Errorf("read the balance %q: %w", account.Balance.Posted, err)
	}
	if posted != found.Taken {
		found.breach("paid orders cost %d, and the shop has %d", found.Taken, posted)
	}
	return nil
}

func each(ctx context.Context, db *sql.DB, scan func(*sql.Rows) error, query string) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Command is `petstore audit`.
type Command struct {
	Orders       string `required:"" env:"PETSTORE_ORDER_DSN" help:"DSN of the order service's schema."`
	Products     string `required:"" env:"PETSTORE_PRODUCT_DSN" help:"DSN of the product service's schema."`
	Lockstep     string `required:"" env:"PETSTORE_LOCKSTEP" help:"URL of the payment system."`
	ClientID     string `required:"" env:"PETSTORE_CLIENT_ID" help:"OAuth client there that owns the shop's account."`
	ClientSecret string `required:"" env:"PETSTORE_CLIENT_SECRET" help:"Its secret."`
	Account      string `required:"" env:"PETSTORE_ACCOUNT" help:"Number of the shop's account."`
	Decimals     int    `default:"0" help:"Decimals of its currency."`
}

// ErrBreached says that something does not agree.
var ErrBreached = errors.New("the books do not agree")

// Run prints what was compared, and every breach.
func (c *Command) Run(ctx context.Context, out io.Writer) (err error) {
	bank, err := client.New(client.Config{BaseURL: c.Lockstep, ClientID: c.ClientID, ClientSecret: c.ClientSecret})
	if err != nil {
		return err
	}
	defer bank.Close()
	books := Books{Bank: bank, Account: c.Account, Decimals: c.Decimals}
	for dsn, db := range map[string]**sql.DB{c.Orders: &books.Orders, c.Products: &books.Products} {
		if *db, err = Open(dsn); err != nil {
			return err
		}
		defer (*db).Close()
	}
	found, err := Run(ctx, books)
	if err != nil {
		return err
	}
	return found.Print(out)
}

// Open opens a schema for reading.
func Open(dsn string) (*sql.DB, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("read the DSN: %w", err)
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("read the DSN: %w", err)
	}
	return sql.OpenDB(connector), nil
}

// Print writes the result, and fails with ErrBreached if there is a breach.
func (f Found) Print(out io.Writer) error {
	for _, breach := range f.Breaches {
		fmt.Fprintln(out, "BREACH:", breach)
	}
	fmt.Fprintf(out, "%d orders: %d paid, %d failed; %d products; %d taken\n", f.Orders, f.Paid, f.Failed, f.Products, f.Taken)
	if len(f.Breaches) > 0 {
		return fmt.Errorf("%w: %d breaches", ErrBreached, len(f.Breaches))
	}
	return nil
}
