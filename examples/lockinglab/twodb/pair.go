package twodb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"lockstep/examples/lockinglab/lab"
	"lockstep/examples/lockinglab/tables"
)

// Options say what pair of banks to start.
type Options struct {
	Program string    // the lab's own
	DSNs    [2]string // of their servers
	Order   string    // OwnFirst or RemoteFirst
	Log     *os.File  // where their logs go
	Crash   int64     // the first bank dies in this transfer, and is started again; 0: never
}

// Pair is two services over two databases, as a way: the odd accounts are in the first.
type Pair struct {
	options Options
	books   [2]*tables.Tables
	urls    [2]string
	caller  *http.Client

	stop    context.CancelFunc
	keepers sync.WaitGroup
}

const (
	readyMax   = 20 * time.Second
	readyPause = 20 * time.Millisecond
	stopMax    = drainMax + 5*time.Second
)

// Open starts both services, on the loopback, and keeps them running until Close.
func Open(ctx context.Context, options Options) (_ *Pair, err error) {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &Pair{options: options, stop: stop, caller: &http.Client{
		Timeout: 2 * callMax, Transport: &http.Transport{MaxIdleConns: connectionsMax, MaxIdleConnsPerHost: connectionsMax},
	}}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	for i, dsn := range options.DSNs {
		if p.books[i], err = tables.Open(ctx, dsn, 1); err != nil {
			return nil, err
		}
		if p.urls[i], err = freeURL(ctx); err != nil {
			return nil, err
		}
	}
	for i := range p.urls {
		p.keepers.Go(func() { p.keep(running, i) })
	}
	for _, url := range p.urls {
		if err := p.await(ctx, url); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// freeURL is an address that nobody listens on.
func freeURL(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return "http://" + listener.Addr().String(), listener.Close()
}

// keep runs a service, and again when it dies; only the first time it is told to.
func (p *Pair) keep(ctx context.Context, i int) {
	crash := p.options.Crash
	for ctx.Err() == nil {
		command := exec.CommandContext(ctx, p.options.Program, "service", "--listen", p.urls[i][len("http://"):],
			"--peer", p.urls[1-i], "--order", p.options.Order, "--tied")
		if crash > 0 && i == 0 {
			command.Args = append(command.Args, "--crash-after", strconv.FormatInt(crash, 10))
		}
		command.Env = append(os.Environ(), "LOCKINGLAB_DSN="+p.options.DSNs[i]) // where no list of processes shows it
		command.Stdout, command.Stderr = p.options.Log, p.options.Log
		command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
		command.WaitDelay = stopMax
		err := tied(command)
		if ctx.Err() == nil {
			fmt.Fprintf(p.options.Log, `{"level":"WARN","msg":"bank %d ended","error":%q}`+"\n", i+1, fmt.Sprint(err))
			crash = 0
			p.rest(ctx)
		}
	}
}

// tied runs a command whose standard input ends with us, however we end.
func tied(command *exec.Cmd) error {
	input, err := command.StdinPipe()
	if err != nil {
		return err
	}
	defer input.Close()
	return command.Run()
}

func (p *Pair) rest(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(readyPause):
	}
}

// await waits until a service is ready.
func (p *Pair) await(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyMax)
	defer cancel()
	for {
		err := p.ask(ctx, url+"/readyz")
		if err == nil {
			return nil
		}
		p.rest(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("wait for the service at %s: %w", url, errors.Join(ctx.Err(), err))
		}
	}
}

func (p *Pair) ask(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	response, err := p.caller.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

// Close stops both services and waits for them.
func (p *Pair) Close() {
	p.stop()
	p.keepers.Wait()
	p.caller.CloseIdleConnections()
	for _, books := range p.books {
		if books != nil {
			books.Close()
		}
	}
}

// place is where an account is: in which bank, and its number there.
func place(account int) (bank, number int) { return (account - 1) % 2, (account + 1) / 2 }

// Reset makes accounts in both.
func (p *Pair) Reset(ctx context.Context, accounts int, balance int64) error {
	for i, books := range p.books {
		if err := books.Reset(ctx, (accounts+1-i)/2, balance); err != nil {
			return err
		}
	}
	return nil
}

// Try asks the payer's bank.
func (p *Pair) Try(ctx context.Context, move lab.Move) error {
	bank, payer := place(move.Payer)
	_, payee := place(move.Payee)
	return post(ctx, p.caller, p.urls[bank]+"/transfers", order{Ticket: move.Ticket, Payer: payer, Payee: payee, Amount: move.Amount})
}

// Books reads both.
func (p *Pair) Books(ctx context.Context) (lab.Books, error) {
	all := lab.Books{Balances: make(map[int]int64), Applied: make(map[int][]int64)}
	for i, books := range p.books {
		part, err := books.Books(ctx)
		if err != nil {
			return all, err
		}
		for number, balance := range part.Balances {
			all.Balances[2*number-1+i] = balance
		}
		for number, tickets := range part.Applied {
			all.Applied[2*number-1+i] = tickets
		}
	}
	return all, nil
}
