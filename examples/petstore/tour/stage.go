package tour

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"lockstep/api/client"
	"lockstep/examples/petstore/audit"
	"lockstep/examples/petstore/courier"
)

// Config says where a tour plays.
type Config struct {
	Credentials string        // credentials.json of a local cluster
	Program     string        // the petstore program
	Dir         string        // for logs
	Frozen      time.Duration // how long the product service is stopped
	Killing     time.Duration // how long services are killed at random
	Seed        uint64        // of who is killed when
	Note        func(string)  // hears of what scenes have counted
}

// currency of the shop: its smallest unit is a whole won.
const currency = "KRW"

// Stage is both services beside a cluster, with gates before the product service and before the payment system.
type Stage struct {
	config  Config
	cluster credentials
	run     string // names what belongs to this tour
	bank    *client.Client
	shop    string // its account
	root    *sql.DB
	books   audit.Books

	products, payments *gate
	hooks              *gate // before the order services, for what the payment system sends
	product            *process
	order, hasty       *process // the hasty one gives up after a second
}

// hastyDecide is how long the hasty order service waits for certainty.
const hastyDecide = time.Second

// credentials is what the tour reads of credentials.json.
type credentials struct {
	NATSURL string `json:"nats_url"`
	Guests  []struct {
		ID           string `json:"id"`
		NATSPassword string `json:"nats_password"`
	} `json:"guests"`
	Systems []struct {
		BaseURL  string `json:"base_url"`
		Operator struct {
			ClientID     string `json:"client_id"`
			ClientSecret string `json:"client_secret"`
		} `json:"operator"`
		MySQLSourceDSN string `json:"mysql_source_dsn"`
	} `json:"systems"`
}

func (c credentials) password(guest string) string {
	for _, g := range c.Guests {
		if g.ID == guest {
			return g.NATSPassword
		}
	}
	return ""
}

// Open makes schemas, accounts and a client of the tour's own, and starts the services.
func Open(ctx context.Context, config Config) (s *Stage, err error) {
	s = &Stage{config: config, run: strings.ToLower(rand.Text()[:10])}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	text, err := os.ReadFile(config.Credentials)
	if err != nil {
		return s, fmt.Errorf("read the credentials of the cluster: %w: start one by 'make up'", err)
	}
	if err := json.Unmarshal(text, &s.cluster); err != nil {
		return s, fmt.Errorf("read the credentials of the cluster: %w", err)
	}
	if len(s.cluster.Systems) == 0 || s.cluster.password(courier.Order) == "" || s.cluster.password(courier.Product) == "" {
		return s, errors.New("the cluster knows no guests called order and product at NATS: start it anew by 'make down up'")
	}
	if err := os.MkdirAll(config.Dir, 0o755); err != nil {
		return s, fmt.Errorf("make a place for logs: %w", err)
	}
	if err := s.openBank(ctx); err != nil {
		return s, fmt.Errorf("open accounts: %w", err)
	}
	if err := s.openSchemas(ctx); err != nil {
		return s, fmt.Errorf("make the schemas: %w", err)
	}
	return s, s.openServices(ctx)
}

// openBank makes the store's own client at the payment system, and the shop's account.
func (s *Stage) openBank(ctx context.Context) error {
	system := s.cluster.Systems[0]
	operator, err := client.New(client.Config{BaseURL: system.BaseURL, ClientID: system.Operator.ClientID, ClientSecret: system.Operator.ClientSecret})
	if err != nil {
		return err
	}
	defer operator.Close()
	made, err := operator.CreateClient(ctx, client.NewOAuthClient{
		ClientID: "petstore-" + s.run, Name: "Pet store",
		Scopes: []string{"accounts:read", "accounts:write", "money:deposit", "money:transfer", "money:read", "proofs:read", "webhooks:write"},
	})
	if err != nil {
		return err
	}
	s.bank, err = client.New(client.Config{BaseURL: system.BaseURL, ClientID: made.ClientID, ClientSecret: made.Secret})
	if err != nil {
		return err
	}
	s.books.Bank = s.bank
	shop, err := s.bank.OpenAccount(ctx, client.NewAccount{Currency: currency, Label: "Pet store"})
	if err != nil {
		return err
	}
	s.shop, s.books.Account = shop.Number, shop.Number
	if s.payments, err = newGate(system.BaseURL); err != nil {
		return err
	}
	// What the order service has to know of it is handed over by its environment.
	s.order = &process{name: "order", env: []string{
		"PETSTORE_LOCKSTEP=" + s.payments.url, "PETSTORE_CLIENT_ID=" + made.ClientID, "PETSTORE_CLIENT_SECRET=" + made.Secret,
		"PETSTORE_ACCOUNT=" + s.shop, "PETSTORE_NATS=" + s.cluster.NATSURL, "PETSTORE_NATS_PASSWORD=" + s.cluster.password(courier.Order),
	}}
	return nil
}

// openSchemas gives each service a schema and a user who has rights there only.
func (s *Stage) openSchemas(ctx context.Context) error {
	root, err := mysql.ParseDSN(s.cluster.Systems[0].MySQLSourceDSN)
	if err != nil {
		return err
	}
	root.ParseTime = true
	connector, err := mysql.NewConnector(root)
	if err != nil {
		return err
	}
	s.root = sql.OpenDB(connector)
	s.product = &process{name: "product", env: []string{
		"PETSTORE_NATS=" + s.cluster.NATSURL, "PETSTORE_NATS_PASSWORD=" + s.cluster.password(courier.Product),
	}}
	for service, to := range map[string]struct {
		process *process
		books   **sql.DB
		dsn     string
	}{
		courier.Order:   {s.order, &s.books.Orders, "PETSTORE_ORDER_DSN="},
		courier.Product: {s.product, &s.books.Products, "PETSTORE_PRODUCT_DSN="},
	} {
		own := root.Clone()
		own.DBName, own.User, own.Passwd = s.schema(service), s.schema(service), rand.Text()
		for _, statement := range []string{
			"CREATE DATABASE " + own.DBName + " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
			"CREATE USER " + own.User + " IDENTIFIED BY '" + own.Passwd + "'",
			"GRANT ALL ON " + own.DBName + ".* TO " + own.User,
		} {
			if _, err := s.root.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		// A frozen service must not keep its row locks for hours: MariaDB ends its transaction.
		own.Params = map[string]string{"idle_transaction_timeout": "3"}
		to.process.env = append(to.process.env, to.dsn+own.FormatDSN())
		if *to.books, err = audit.Open(own.FormatDSN()); err != nil {
			return err
		}
	}
	return nil
}

// customer is one of this tour. Orders have their ids from their customers, and the broker remembers for two minutes what it was
// told of an order: another tour's has to have another id.
func (s *Stage) customer(name string) string { return name + "-" + s.run }

func (s *Stage) schema(service string) string { return "petstore_" + service + "_" + s.run }

func (s *Stage) openServices(ctx context.Context) error {
	addresses, err := freeAddresses(3)
	if err != nil {
		return err
	}
	equip := func(p *process, address string, args ...string) {
		p.program, p.url, p.logs = s.config.Program, "http://"+address, filepath.Join(s.config.Dir, p.name+".log")
		p.args = append([]string{"--log-level=debug"}, append(args, "--listen="+address)...)
	}
	equip(s.product, addresses[0], "product", "--ack-wait=4s", "--deliveries=8", "--retry-max=300ms")
	if s.products, err = newGate(s.product.url); err != nil {
		return err
	}
	if s.hooks, err = newGate("http://" + addresses[2]); err != nil {
		return err
	}
	ordering := []string{
		"order", "--products=" + s.products.url, "--webhook-url=" + s.hooks.url + "/webhooks", "--product-wait=1500ms", "--pay-wait=3s", "--lease=4s", "--wait=20s", "--retry-max=1s",
	}
	s.hasty = &process{name: "order-hasty", env: s.order.env}
	equip(s.hasty, addresses[1], append(slices.Clone(ordering), "--decide="+hastyDecide.String())...)
	equip(s.order, addresses[2], append(ordering, "--decide="+(time.Minute+2*s.config.Frozen).String())...)
	for _, p := range s.processes() {
		_ = os.Remove(p.logs) // an earlier tour's
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stage) processes() []*process {
	var started []*process
	for _, p := range []*process{s.product, s.order, s.hasty} {
		if p != nil && p.program != "" {
			started = append(started, p)
		}
	}
	return started
}

// freeAddresses are of ports that nobody listens on.
func freeAddresses(n int) (all []string, err error) {
	for range n {
		listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		all = append(all, listener.Addr().String())
	}
	return all, nil
}

// Close ends the services, as SIGTERM does, and drops their schemas if they ended in order.
func (s *Stage) Close() (err error) {
	for _, g := range []*gate{s.products, s.payments, s.hooks} {
		if g != nil {
			g.close()
		}
	}
	for _, p := range s.processes() {
		err = errors.Join(err, p.end())
	}
	for _, db := range []*sql.DB{s.books.Orders, s.books.Products} {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}
	if s.bank != nil {
		s.bank.Close()
	}
	if s.root == nil {
		return err
	}
	for _, service := range []string{courier.Order, courier.Product} {
		for _, statement := range []string{"DROP DATABASE IF EXISTS ", "DROP USER IF EXISTS "} {
			if err == nil {
				_, err = s.root.ExecContext(context.Background(), statement+s.schema(service))
			}
		}
	}
	return errors.Join(err, s.root.Close())
}
