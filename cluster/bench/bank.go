package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/cluster/local"
)

const (
	principals = 100
	accounts   = 10_000
	richEnough = "1000000000"
	currency   = "KRW"
	fillers    = 64 // connections that fill the bank
)

// bank is the system under load: who may pay from which account. Account i belongs to principal i % principals.
type bank struct {
	nodes   []string  // host:port
	people  []*person // by principal
	numbers []string  // by account; all are of one length
	abroad  []string  // accounts of another system, to be paid

	life   string // begins every idempotency key of this bank
	keys   atomic.Int64
	heads  [][]byte // by principal: a request's headers, up to the key; replaced by renew
	signed time.Time
}

// person is a principal: somebody who has signed in, with the cookies that a browser would send.
type person struct {
	cookies []string // name=value
}

// access is the token of the session, as it could be sent in an Authorization header.
func (p *person) access() string {
	for _, cookie := range p.cookies {
		if name, value, _ := strings.Cut(cookie, "="); strings.HasSuffix(name, "_access") {
			return value
		}
	}
	return ""
}

// tokenFresh is how old tokens may be before a load. They live for 15 minutes.
const tokenFresh = 4 * time.Minute

// openBank makes principals and accounts over REST, as any customer would: people who register and stay signed in.
func openBank(ctx context.Context, system local.SystemCredentials) (*bank, error) {
	b := &bank{
		life: strconv.FormatUint(rand.Uint64(), 36), people: make([]*person, principals), numbers: make([]string, accounts),
	}
	for _, url := range system.Nodes {
		b.nodes = append(b.nodes, strings.TrimPrefix(url, "http://"))
	}
	for i := range b.people { // one after the other: each costs the hash of a password
		if err := b.register(i); err != nil {
			return nil, err
		}
	}
	if err := b.renew(ctx); err != nil {
		return nil, err
	}
	err := b.parallel(ctx, accounts, func(w *wire, i int) error {
		var account struct{ Number string }
		head := b.heads[i%principals]
		if err := b.post(w, head, "/v1/accounts", `{"currency":"`+currency+`"}`, &account); err != nil {
			return err
		}
		b.numbers[i] = account.Number
		return b.post(w, head, "/v1/deposits",
			`{"account":"`+account.Number+`","amount":"`+richEnough+`","currency":"`+currency+`"}`, nil)
	})
	return b, err
}

// renew renews the sessions of all principals when their tokens are old.
func (b *bank) renew(ctx context.Context) error {
	if time.Since(b.signed) < tokenFresh {
		return nil
	}
	heads := make([][]byte, principals)
	err := b.parallel(ctx, principals, func(w *wire, i int) error {
		err := b.session(w, b.people[i], "/v1/auth/refresh", "{}", statusOK)
		heads[i] = b.head(b.people[i])
		return err
	})
	if err != nil {
		return err
	}
	b.heads, b.signed = heads, time.Now()
	return nil
}

// head is what the requests of one principal have in common, from the first header to the idempotency key.
func (b *bank) head(p *person) []byte {
	return []byte(" HTTP/1.1\r\nHost: bench\r\nOrigin: http://bench\r\nCookie: " + strings.Join(p.cookies, "; ") + "\r\nIdempotency-Key: ")
}

// parallel works off 0 to count-1 on connections to all nodes.
func (b *bank) parallel(ctx context.Context, count int, work func(*wire, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for worker := range min(fillers, count) {
		wg.Go(func() {
			w := newWire(b.nodes[worker%len(b.nodes)])
			defer w.close()
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				if err := work(w, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// register makes a person, who is signed in with it.
func (b *bank) register(i int) error {
	w := newWire(b.nodes[i%len(b.nodes)])
	defer w.close()
	b.people[i] = &person{}
	body := fmt.Sprintf(`{"username":"bench-%s-%d","password":"%x%x"}`, b.life, i, rand.Uint64(), rand.Uint64())
	return b.session(w, b.people[i], "/v1/auth/register", body, statusCreated)
}

// session asks for a person's cookies and keeps them.
func (b *bank) session(w *wire, p *person, path, body string, want int) error {
	w.cookies = []string{}
	defer func() { w.cookies = nil }()
	status, answer, err := w.call(b.appendPost(nil, b.head(p), path, body))
	if err != nil {
		return err
	}
	if status != want || len(w.cookies) == 0 {
		return fmt.Errorf("POST %s: %w: %d %s", path, errAnswer, status, answer)
	}
	p.cookies = w.cookies
	return nil
}

// errAnswer is an answer that was not expected.
var errAnswer = errors.New("unexpected answer")

const (
	statusOK      = 200
	statusCreated = 201
)

// post sends one request under a key of its own, expects 201 and reads the answer's body into into, if that is not nil.
func (b *bank) post(w *wire, head []byte, path, body string, into any) error {
	status, answer, err := w.call(b.appendPost(nil, head, path, body))
	if err != nil {
		return err
	}
	if status != statusCreated {
		return fmt.Errorf("POST %s: %w: %d %s", path, errAnswer, status, answer)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("POST %s: read the answer: %w", path, err)
	}
	return nil
}

// appendPost puts a request with a key of its own together.
func (b *bank) appendPost(request, head []byte, path string, body ...string) []byte {
	request = append(append(append(request, "POST "...), path...), head...)
	request = append(append(request, b.life...), '-')
	request = strconv.AppendInt(request, b.keys.Add(1), 36)
	length := 0
	for _, part := range body {
		length += len(part)
	}
	request = append(request, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	request = append(strconv.AppendInt(request, int64(length), 10), "\r\n\r\n"...)
	for _, part := range body {
		request = append(request, part...)
	}
	return request
}

// appendTransfer is a transfer of one unit from one account to another, both by their index.
func (b *bank) appendTransfer(request []byte, from, to int) []byte {
	return b.appendPost(request, b.heads[from%principals], "/v1/transfers", `{"from":"`, b.numbers[from], `","to":"`, b.numbers[to],
		`","amount":"1","currency":"`+currency+`"}`)
}

// appendRead asks for an account, as its owner does.
func (b *bank) appendRead(request []byte, account int) []byte {
	head := b.heads[account%principals]
	request = append(append(append(request, "GET /v1/accounts/"...), b.numbers[account]...), head...)
	return append(request, "none\r\n\r\n"...)
}
