// Package stage sets the ticket office up next to a local cluster, as processes that can be killed: schemas and accounts of
// their own, a broker for the services, buyers with money. The tour and the tests use it.
package stage

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lockstep/api/client"
	"lockstep/examples/ticketoffice/choreography"
	"lockstep/examples/ticketoffice/sale"
)

const (
	startMax     = 90 * time.Second
	accountsOnce = 12 // opened at a time
	batchMax     = 100
	purseAmount  = "1000000000000"
)

// Modes of the office.
const (
	Monolith     = "monolith"
	Events       = "events"
	Choreography = "choreography"
)

// Options say what to set up.
type Options struct {
	Mode        string
	Credentials Credentials
	Lockstep    string   // the program, for the broker of a choreography
	Program     []string // how to run the ticket office
	Env         []string // added to its environment
	Dir         string   // for logs and the broker's streams

	Capacity            int // 0 is 100
	TokenLifetime       time.Duration
	ReservationLifetime time.Duration
	HoldExpires         time.Duration
	Twice               bool // a second process of the one that has the queue
	Direct              bool // Lockstep is asked without a gate, and tells nothing: for measuring
}

// Credentials are what credentials.json of a local cluster says, as far as it matters here.
type Credentials struct {
	Systems []struct {
		BaseURL  string `json:"base_url"`
		Operator struct {
			ID     string `json:"client_id"`
			Secret string `json:"client_secret"`
		} `json:"operator"`
		MySQLSourceDSN string   `json:"mysql_source_dsn"`
		RedisAddrs     []string `json:"redis_addrs"`
	} `json:"systems"`
}

// ReadCredentials reads the file of a running cluster.
func ReadCredentials(path string) (c Credentials, err error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err == nil && len(c.Systems) == 0 {
		err = errors.New("it names no system")
	}
	if err != nil {
		return c, fmt.Errorf("read the credentials of a running cluster: %w", err)
	}
	return c, nil
}

// Stage is a running office.
type Stage struct {
	Office
	Operator *client.Client // has all scopes
	Owner    *client.Client // as whom the office pays; it owns the shop's account and the buyers'
	Shop     string

	purse     string // an account from which buyers get their money
	options   Options
	schemas   schemas
	processes map[string]*process
	lockstep  *gate // before Lockstep, for the office
	told      *gate // before the office, for Lockstep
	broker    *process
	buyers    sync.Map // what each account began with, by number
}

// Open starts an office and returns when all of it is ready.
func Open(ctx context.Context, options Options) (s *Stage, err error) {
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	if options.Capacity == 0 {
		options.Capacity = 100
	}
	s = &Stage{options: options, processes: map[string]*process{}}
	defer func() {
		if err != nil {
			err = fmt.Errorf("set the office up: %w", errors.Join(err, s.Close()))
		}
	}()
	system := options.Credentials.Systems[0]
	s.Operator, err = client.New(client.Config{BaseURL: system.BaseURL, ClientID: system.Operator.ID, ClientSecret: system.Operator.Secret})
	if err != nil {
		return s, err
	}
	owner, err := s.Operator.CreateClient(ctx, client.NewOAuthClient{
		Name: "ticket office", Scopes: []string{"accounts:read", "accounts:write", "money:read", "money:transfer", "webhooks:write"},
	})
	if err != nil {
		return s, err
	}
	s.Owner, err = client.New(client.Config{BaseURL: system.BaseURL, ClientID: owner.ClientID, ClientSecret: owner.Secret})
	if err != nil {
		return s, err
	}
	for label, number := range map[string]*string{"ticket office": &s.Shop, "purse": &s.purse} {
		account, err := s.Owner.OpenAccount(ctx, client.NewAccount{Currency: sale.Currency, Label: label})
		if err != nil {
			return s, err
		}
		*number = account.Number
	}
	if _, err := s.Operator.Deposit(ctx, client.Cash{Account: s.purse, Amount: purseAmount, Currency: sale.Currency}); err != nil {
		return s, err
	}
	if err := s.schemas.make(ctx, system.MySQLSourceDSN, s.parts()); err != nil {
		return s, err
	}
	return s, s.start(ctx, owner)
}

// parts are the names of the office's processes, but for a twin.
func (s *Stage) parts() []string {
	if s.options.Mode == Choreography {
		return choreography.Services
	}
	return []string{s.options.Mode}
}

// twin is the name of a second process of the part that has the queue.
const twin = "twin"

func (s *Stage) start(ctx context.Context, owner client.OAuthClient) error {
	ports, err := freePorts(len(s.parts()) + 2)
	if err != nil {
		return err
	}
	passwords := map[string]string{}
	if s.options.Mode == Choreography {
		for _, part := range s.parts() {
			passwords[part] = rand.Text()
		}
		if err := s.startBroker(ctx, ports[len(ports)-1], passwords); err != nil {
			return err
		}
	}
	urls := map[string]string{}
	for i, part := range s.parts() {
		urls[part] = "http://127.0.0.1:" + strconv.Itoa(ports[i])
	}
	s.Office = newOffice(s.options.Mode, urls)
	if s.lockstep, err = newGate(s.options.Credentials.Systems[0].BaseURL); err != nil {
		return err
	}
	if s.told, err = newGate(s.moneyURL()); err != nil {
		return err
	}
	starting, ctx := errgroup.WithContext(ctx)
	for i, part := range s.running() {
		name := part
		if i == len(s.parts()) {
			part = s.parts()[0]
			s.urls[name] = "http://127.0.0.1:" + strconv.Itoa(ports[i])
		}
		p := s.process(name, part, ports[i], ports[len(ports)-1])
		p.env = append(p.env, "TICKETOFFICE_DSN="+s.schemas.dsn[part], "TICKETOFFICE_NATS_PASSWORD="+passwords[part],
			"TICKETOFFICE_CLIENT_ID="+owner.ClientID, "TICKETOFFICE_CLIENT_SECRET="+owner.Secret)
		s.processes[name] = p
		starting.Go(func() error { return p.start(ctx) })
	}
	return starting.Wait()
}

// running are the names of all processes, a twin last.
func (s *Stage) running() []string {
	if s.options.Twice {
		return append(slices.Clone(s.parts()), twin)
	}
	return s.parts()
}

// moneyURL is that of the process that asks Lockstep.
func (s *Stage) moneyURL() string {
	if s.options.Mode == Choreography {
		return s.url(choreography.Points)
	}
	return s.url(s.options.Mode)
}

func (s *Stage) process(name, part string, port, broker int) *process {
	system := s.options.Credentials.Systems[0]
	args := append(s.options.Program[1:len(s.options.Program):len(s.options.Program)],
		"serve", "--mode="+s.options.Mode, "--faults", "--listen=127.0.0.1:"+strconv.Itoa(port),
		"--redis="+strings.Join(system.RedisAddrs, ","), "--redis-prefix="+s.schemas.name(part), "--capacity="+strconv.Itoa(s.options.Capacity),
		"--shop="+s.Shop)
	if s.options.Direct {
		args = append(args, "--lockstep-url="+system.BaseURL)
	} else {
		args = append(args, "--lockstep-url="+s.lockstep.url)
	}
	if part == choreography.Points && !s.options.Direct {
		args = append(args, "--webhook-url="+s.told.url+"/webhooks")
	}
	if s.options.HoldExpires > 0 {
		args = append(args, "--hold-expires="+s.options.HoldExpires.String())
	}
	if s.options.Mode == Choreography {
		args = append(args, "--service="+part, "--nats-url=nats://127.0.0.1:"+strconv.Itoa(broker), "--queue-url="+s.Queue)
	}
	if s.options.TokenLifetime > 0 {
		args = append(args, "--token-lifetime="+s.options.TokenLifetime.String())
	}
	if s.options.ReservationLifetime > 0 {
		args = append(args, "--reservation-lifetime="+s.options.ReservationLifetime.String())
	}
	url := s.url(name)
	return &process{
		name: name, path: s.options.Program[0], args: args, env: s.options.Env, log: filepath.Join(s.options.Dir, name+".log"),
		ready: func(ctx context.Context) error { return s.call(ctx, "GET", url+"/readyz", nil, nil) },
	}
}

// startBroker runs the broker of the services, where each is a system of its own.
func (s *Stage) startBroker(ctx context.Context, port int, passwords map[string]string) error {
	type system struct {
		ID       string `json:"id"`
		Password string `json:"password"`
	}
	var systems []system
	for id, password := range passwords {
		systems = append(systems, system{id, password})
	}
	dir := filepath.Join(s.options.Dir, "broker")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{"name": "ticketoffice", "host": "127.0.0.1", "port": port, "store_dir": dir, "systems": systems})
	if err != nil {
		return err
	}
	path := filepath.Join(s.options.Dir, "broker.yaml") // JSON is YAML
	if err := os.WriteFile(path, config, 0o600); err != nil {
		return err
	}
	s.broker = &process{
		name: "broker", path: s.options.Lockstep, args: []string{"broker", "--config", path}, log: filepath.Join(s.options.Dir, "broker.log"),
		ready: func(ctx context.Context) error { return dial(ctx, "127.0.0.1:"+strconv.Itoa(port)) },
	}
	return s.broker.start(ctx)
}

// Close ends all processes and drops the schemas. It may be called twice.
func (s *Stage) Close() error {
	var ending errgroup.Group
	for _, p := range s.processes {
		ending.Go(p.stop)
	}
	err := ending.Wait()
	if s.broker != nil {
		err = errors.Join(err, s.broker.stop())
	}
	if s.Owner != nil {
		s.Owner.Close()
		s.Operator.Close()
	}
	s.closeIdle()
	for _, g := range []*gate{s.lockstep, s.told} {
		if g != nil {
			g.close()
		}
	}
	return errors.Join(err, s.schemas.drop())
}

// Kill ends a process as a power cut would.
func (s *Stage) Kill(name string) error { return s.find(name).kill() }

// Stop has a process end in order.
func (s *Stage) Stop(name string) error { return s.find(name).stop() }

// Start runs a process again, and returns when it is ready.
func (s *Stage) Start(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	return s.find(name).start(ctx)
}

// Processes are the names of the office's processes.
func (s *Stage) Processes() []string { return s.parts() }

func (s *Stage) find(name string) *process {
	if p := s.processes[name]; p != nil {
		return p
	}
	if name == "broker" && s.broker != nil {
		return s.broker
	}
	panic("stage: there is no process " + name)
}

// Fail has a step of a payment fail so many times from now on.
func (s *Stage) Fail(ctx context.Context, step, payment string, times int) error {
	return s.call(ctx, "POST", s.url(s.owner(step))+"/v1/faults", map[string]any{"step": step, "payment": payment, "times": times}, nil)
}

// FailuresLeft says how many failures of a step are still to come.
func (s *Stage) FailuresLeft(ctx context.Context, step, payment string) (int, error) {
	var answer struct{ Left int }
	err := s.call(ctx, "GET", s.url(s.owner(step))+"/v1/faults/"+step+"/"+payment, nil, &answer)
	return answer.Left, err
}

// owner is the process whose step it is.
func (s *Stage) owner(step string) string {
	if s.options.Mode != Choreography {
		return s.options.Mode
	}
	switch step {
	case sale.StepToken, sale.StepExpire:
		return choreography.Queue
	case sale.StepRecord, sale.StepPaid:
		return choreography.Payment
	case sale.StepHold, sale.StepCapture:
		return choreography.Points
	case sale.StepSeat, sale.StepSold:
		return choreography.Concert
	}
	return choreography.Push
}

// Accounts opens accounts of buyers with so much money each.
func (s *Stage) Accounts(ctx context.Context, count int, amount int64) ([]string, error) {
	numbers := make([]string, count)
	opening, openingCtx := errgroup.WithContext(ctx)
	opening.SetLimit(accountsOnce)
	for i := range count {
		opening.Go(func() error {
			account, err := s.Owner.OpenAccount(openingCtx, client.NewAccount{Currency: sale.Currency, Label: fmt.Sprintf("buyer %d", i+1)})
			numbers[i] = account.Number
			return err
		})
	}
	if err := opening.Wait(); err != nil {
		return nil, err
	}
	for some := range slices.Chunk(numbers, batchMax) {
		batch := client.Batch{Atomic: true}
		for _, number := range some {
			batch.Transfers = append(batch.Transfers, client.Payment{
				From: s.purse, To: number, Amount: strconv.FormatInt(amount, 10), Currency: sale.Currency,
			})
			s.buyers.Store(number, amount)
		}
		if _, err := s.Owner.Batch(ctx, batch); err != nil {
			return nil, err
		}
	}
	return numbers, nil
}
