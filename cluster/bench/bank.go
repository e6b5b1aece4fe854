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

	bankScopes = `["accounts:read","accounts:write","money:transfer","money:deposit","money:read"]`
)

// bank is the system under load: who may pay from which account. Account i belongs to principal i % principals.
type bank struct {
	nodes    []string // host:port
	operator local.ClientCredentials
	clients  []local.ClientCredentials // by principal
	numbers  []string                  // by account; all are of one length
	abroad   []string                  // accounts of another system, to be paid

	life   string // begins every idempotency key of this bank
	keys   atomic.Int64
	heads  [][]byte // by principal: a request's headers, up to the key; replaced by renew
	signed time.Time
}

// tokenFresh is how old tokens may be before a load. They live for 15 minutes.
const tokenFresh = 4 * time.Minute

// openBank makes principals and accounts over REST, as any customer would.
func openBank(ctx context.Context, system local.SystemCredentials) (*bank, error) {
	b := &bank{
		operator: system.Operator, life: strconv.FormatUint(rand.Uint64(), 36),
		clients: make([]local.ClientCredentials, principals), numbers: make([]string, accounts),
	}
	for _, url := range system.Nodes {
		b.nodes = append(b.nodes, strings.TrimPrefix(url, "http://"))
	}
	w := newWire(b.nodes[0])
	defer w.close()
	operator, err := b.signIn(w, b.operator)
	if err != nil {
		return nil, err
	}
	err = b.parallel(ctx, principals, func(w *wire, i int) error {
		body := fmt.Sprintf(`{"name":"bench %d","scopes":%s}`, i, bankScopes)
		return b.post(w, b.head(operator), "/v1/admin/clients", body, &b.clients[i])
	})
	if err != nil {
		return nil, err
	}
	if err := b.renew(ctx); err != nil {
		return nil, err
	}
	err = b.parallel(ctx, accounts, func(w *wire, i int) error {
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

// renew signs all principals in again when their tokens are old.
func (b *bank) renew(ctx context.Context) error {
	if time.Since(b.signed) < tokenFresh {
		return nil
	}
	heads := make([][]byte, principals)
	err := b.parallel(ctx, principals, func(w *wire, i int) error {
		token, err := b.signIn(w, b.clients[i])
		heads[i] = b.head(token)
		return err
	})
	if err != nil {
		return err
	}
	b.heads, b.signed = heads, time.Now()
	return nil
}

// head is what the requests of one principal have in common, from the first header to the idempotency key.
func (b *bank) head(token string) []byte {
	return []byte(" HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + token + "\r\nIdempotency-Key: ")
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

func (b *bank) signIn(w *wire, client local.ClientCredentials) (string, error) {
	form := "grant_type=client_credentials&client_id=" + client.ClientID + "&client_secret=" + client.ClientSecret
	status, body, err := w.call([]byte("POST /v1/oauth/token HTTP/1.1\r\nHost: bench\r\n" +
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " + strconv.Itoa(len(form)) + "\r\n\r\n" + form))
	if err != nil {
		return "", fmt.Errorf("sign %s in: %w", client.ClientID, err)
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Token == "" {
		return "", fmt.Errorf("sign %s in: %w: %d %s", client.ClientID, errAnswer, status, body)
	}
	return answer.Token, nil
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
