// Package engine moves money by Lockstep, over HTTP, as any program does: its token, the balancer, and the node behind it
// are part of every move.
package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"lockstep/api/client"
	"lockstep/examples/lockinglab/lab"
)

// System says where one Lockstep system is and who asks.
type System struct {
	BaseURL, ClientID, ClientSecret string
}

const (
	currency = "KRW"
	callers  = 16               // requests at once that open accounts and read books
	pageMax  = 200              // entries of a statement in one answer
	settleBy = 30 * time.Second // that what was answered as posted is booked in the other system
	settle   = 20 * time.Millisecond
)

// Bank is a way to move money inside one system, or between two: then the odd accounts are in the first.
type Bank struct {
	systems []*client.Client
	numbers []string // of accounts 1, 2, ...
	nobody  string   // in the first system; paid what is used
	tickets sync.Map // transfer id -> ticket

	calls, attempts atomic.Int64 // of transfers
}

// Open makes a client for each system with so many connections, and warms them.
func Open(ctx context.Context, connections int, systems ...System) (*Bank, error) {
	b := &Bank{}
	for _, system := range systems {
		transport := &http.Transport{MaxIdleConns: connections, MaxIdleConnsPerHost: connections}
		c, err := client.New(client.Config{
			BaseURL: system.BaseURL, ClientID: system.ClientID, ClientSecret: system.ClientSecret,
			HTTPClient: &http.Client{Transport: transport}, Observe: b.observe,
		})
		if err != nil {
			b.Close()
			return nil, fmt.Errorf("connect to %s: %w", system.BaseURL, err)
		}
		b.systems = append(b.systems, c)
	}
	if err := b.warm(ctx, connections); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// warm opens all connections, with a token.
func (b *Bank) warm(ctx context.Context, connections int) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, system := range b.systems {
		for range connections {
			group.Go(func() error {
				_, err := system.Accounts(ctx, client.Page{Limit: 1})
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("ask Lockstep: %w", err)
	}
	return nil
}

// Close closes all connections.
func (b *Bank) Close() {
	for _, system := range b.systems {
		system.Close()
	}
}

func (b *Bank) observe(a client.Attempt) {
	if a.Key != "" && a.Path == "/v1/transfers" {
		b.attempts.Add(1)
	}
}

// Retries counts the requests for transfers that the client sent again by itself.
func (b *Bank) Retries() int64 { return b.attempts.Load() - b.calls.Load() }

// system is where an account is.
func (b *Bank) system(account int) *client.Client { return b.systems[(account-1)%len(b.systems)] }

// Reset opens new accounts and pays into each. The old ones stay in the system, and nobody knows them any more.
func (b *Bank) Reset(ctx context.Context, accounts int, balance int64) error {
	b.numbers, b.tickets = make([]string, accounts), sync.Map{}
	nobody, err := b.systems[0].OpenAccount(ctx, client.NewAccount{Currency: currency, Label: "locking lab: used"})
	if err != nil {
		return fmt.Errorf("open an account: %w", err)
	}
	b.nobody = nobody.Number
	return b.each(ctx, func(ctx context.Context, account int) error {
		opened, err := b.system(account).OpenAccount(ctx, client.NewAccount{Currency: currency, Label: "locking lab"})
		if err != nil {
			return fmt.Errorf("open an account: %w", err)
		}
		b.numbers[account-1] = opened.Number
		_, err = b.system(account).Deposit(ctx, client.Cash{Account: opened.Number, Amount: strconv.FormatInt(balance, 10), Currency: currency})
		if err != nil {
			return fmt.Errorf("pay into an account: %w", err)
		}
		return nil
	})
}

func (b *Bank) each(ctx context.Context, work func(ctx context.Context, account int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(callers)
	for i := range b.numbers {
		group.Go(func() error { return work(ctx, i+1) })
	}
	return group.Wait()
}

// Try asks for a transfer, and for its outcome until that is known. The client repeats a request under its key as long
// as nobody has said what became of it.
func (b *Bank) Try(ctx context.Context, move lab.Move) error {
	to := b.nobody
	if move.Payee != lab.Nobody {
		to = b.numbers[move.Payee-1]
	}
	payer := b.system(move.Payer)
	b.calls.Add(1)
	transfer, err := payer.Transfer(ctx, client.Payment{
		From: b.numbers[move.Payer-1], To: to, Amount: strconv.FormatInt(move.Amount, 10), Currency: currency,
	})
	if err != nil {
		return refusal(err)
	}
	for transfer.State == "pending" {
		if err := pause(ctx); err != nil {
			return err
		}
		if transfer, err = payer.TransferByID(ctx, transfer.ID, client.Fresh()); err != nil {
			return fmt.Errorf("ask for a transfer: %w", err)
		}
	}
	if transfer.State != "posted" {
		return lab.Busy // a definite no, and nothing moved
	}
	b.tickets.Store(transfer.ID, move.Ticket)
	return nil
}

// refusal translates a definite answer. An *client.UnknownError ends the load: nobody could count such a move.
func refusal(err error) error {
	var problem *client.Problem
	var unknown *client.UnknownError
	switch {
	case errors.As(err, &unknown) || !errors.As(err, &problem):
		return fmt.Errorf("transfer: %w", err)
	case problem.Code == "insufficient_funds":
		return lab.ErrRefused
	case problem.Retry != client.Never:
		return lab.Busy
	}
	return fmt.Errorf("transfer: %w", err)
}

func pause(ctx context.Context) error {
	select {
	case <-time.After(settle):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Books reads all accounts and their statements, once nothing is under way to them any more.
func (b *Bank) Books(ctx context.Context) (lab.Books, error) {
	ctx, cancel := context.WithTimeout(ctx, settleBy+time.Duration(len(b.numbers))*time.Second)
	defer cancel()
	books := lab.Books{Balances: make(map[int]int64), Applied: make(map[int][]int64)}
	var writing sync.Mutex
	err := b.each(ctx, func(ctx context.Context, account int) error {
		balance, err := b.settled(ctx, account)
		if err != nil {
			return fmt.Errorf("read an account: %w", err)
		}
		tickets, err := b.statement(ctx, account)
		if err != nil {
			return fmt.Errorf("read a statement: %w", err)
		}
		writing.Lock()
		defer writing.Unlock()
		books.Balances[account], books.Applied[account] = balance, tickets
		return nil
	})
	return books, err
}

// settled is an account's money once no credit or debit of it is pending.
func (b *Bank) settled(ctx context.Context, account int) (int64, error) {
	for {
		read, err := b.system(account).Account(ctx, b.numbers[account-1], client.Fresh())
		if err != nil {
			return 0, err
		}
		if read.Balance.PendingCredit == "0" && read.Balance.PendingDebit == "0" {
			return strconv.ParseInt(read.Balance.Posted, 10, 64)
		}
		if err := pause(ctx); err != nil {
			return 0, err
		}
	}
}

// statement lists the tickets of an account's transfers in the order in which they took effect. One that nobody was told
// of has no ticket, and counts as 0.
func (b *Bank) statement(ctx context.Context, account int) ([]int64, error) {
	var tickets []int64
	page := client.Page{Limit: pageMax}
	for {
		entries, err := b.system(account).Entries(ctx, b.numbers[account-1], client.Filter{Page: page}, client.Fresh())
		if err != nil {
			return nil, err
		}
		for _, entry := range entries.Entries {
			if entry.Kind == "deposit" {
				continue
			}
			ticket, _ := b.tickets.Load(entry.TransferID)
			number, _ := ticket.(int64)
			tickets = append(tickets, number)
		}
		if page.Cursor = entries.NextCursor; page.Cursor == "" {
			slices.Reverse(tickets) // they come newest first
			return tickets, nil
		}
	}
}
