package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"lockstep/cluster/local"
)

const (
	principals = 100
	accounts   = 10_000
	richEnough = "1000000000"
	currency   = "KRW"
)

// bank is the system under load: who may pay from which account.
type bank struct {
	http   *fasthttp.Client
	nodes  []string
	tokens []string   // by principal
	owned  [][]string // numbers by principal
	hot    string     // the first account of principal 0
}

type clientAnswer struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret"`
}

// openBank makes principals and accounts over REST, as any customer would.
func openBank(ctx context.Context, alpha local.SystemCredentials, progress func(string)) (*bank, error) {
	b := &bank{
		nodes:  alpha.Nodes,
		http:   &fasthttp.Client{MaxConnsPerHost: 1024, ReadTimeout: 40 * time.Second, WriteTimeout: 10 * time.Second},
		tokens: make([]string, principals), owned: make([][]string, principals),
	}
	operator, err := b.signIn(alpha.Operator.ClientID, alpha.Operator.ClientSecret)
	if err != nil {
		return nil, err
	}
	progress(fmt.Sprintf("making %d principals with %d accounts", principals, accounts))
	err = parallel(ctx, 32, principals, func(i int) error {
		var client clientAnswer
		body := fmt.Sprintf(`{"name":"bench %d","scopes":["accounts:read","accounts:write","money:transfer","money:deposit","money:read"]}`, i)
		if err := b.post(i, operator, "/v1/admin/clients", body, 201, &client); err != nil {
			return err
		}
		b.tokens[i], err = b.signIn(client.ID, client.Secret)
		return err
	})
	if err != nil {
		return nil, err
	}
	numbers := make([]string, accounts)
	err = parallel(ctx, 128, accounts, func(i int) error {
		var account struct{ Number string }
		if err := b.post(i, b.tokens[i%principals], "/v1/accounts", `{"currency":"`+currency+`"}`, 201, &account); err != nil {
			return err
		}
		numbers[i] = account.Number
		body := `{"account":"` + account.Number + `","amount":"` + richEnough + `","currency":"` + currency + `"}`
		return b.post(i, b.tokens[i%principals], "/v1/deposits", body, 201, nil)
	})
	for i, number := range numbers {
		b.owned[i%principals] = append(b.owned[i%principals], number)
	}
	b.hot = numbers[0]
	return b, err
}

// parallel runs work for 0 to count-1.
func parallel(ctx context.Context, workers, count int, work func(int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				if err := work(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (b *bank) signIn(id, secret string) (string, error) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.Header.SetMethod(fasthttp.MethodPost)
	request.SetRequestURI(b.nodes[0] + "/v1/oauth/token")
	request.Header.SetContentType("application/x-www-form-urlencoded")
	request.SetBodyString("grant_type=client_credentials&client_id=" + id + "&client_secret=" + secret)
	if err := b.http.Do(request, response); err != nil {
		return "", fmt.Errorf("sign %s in: %w", id, err)
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(response.Body(), &answer); err != nil || answer.Token == "" {
		return "", fmt.Errorf("sign %s in: %d %s", id, response.StatusCode(), response.Body())
	}
	return answer.Token, nil
}

// errAnswer is an answer that the load did not expect.
var errAnswer = errors.New("unexpected answer")

// post sends one request under a key of its own to one of the nodes.
func (b *bank) post(i int, token, path, body string, want int, into any) error {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.Header.SetMethod(fasthttp.MethodPost)
	request.SetRequestURI(b.nodes[i%len(b.nodes)] + path)
	request.Header.SetContentType("application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Idempotency-Key", uuid.NewString())
	request.SetBodyString(body)
	if err := b.http.Do(request, response); err != nil {
		return fmt.Errorf("POST %s: %w", path, err)
	}
	if response.StatusCode() != want {
		return fmt.Errorf("POST %s: %w: %d %s", path, errAnswer, response.StatusCode(), response.Body())
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(response.Body(), into)
}

// uniform moves money between any two of all accounts.
func (b *bank) uniform(i int) error {
	payer := rand.IntN(principals)
	return b.transfer(i, payer, b.any(payer), b.any((payer+1+rand.IntN(principals-1))%principals))
}

// hotspot pays half into one account and half out of it.
func (b *bank) hotspot(i int) error {
	other := 1 + rand.IntN(principals-1)
	if rand.IntN(2) == 0 {
		return b.transfer(i, other, b.any(other), b.hot)
	}
	return b.transfer(i, 0, b.hot, b.any(other))
}

func (b *bank) any(principal int) string {
	return b.owned[principal][rand.IntN(len(b.owned[principal]))]
}

func (b *bank) transfer(i, principal int, from, to string) error {
	body := `{"from":"` + from + `","to":"` + to + `","amount":"` + strconv.Itoa(1+rand.IntN(9)) + `","currency":"` + currency + `"}`
	return b.post(i, b.tokens[principal], "/v1/transfers", body, 201, nil)
}

// measure keeps conns connections busy for a while, half of them at each node, and counts what succeeded.
func (b *bank) measure(ctx context.Context, name string, conns int, duration time.Duration, send func(int) error) (Load, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var done atomic.Int64
	var times latencies
	began := time.Now()
	for i := range conns {
		wg.Go(func() {
			for time.Since(began) < duration && ctx.Err() == nil {
				start := time.Now()
				if err := send(i); err != nil {
					cancel(err)
					return
				}
				times.add(time.Since(start))
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return Load{}, fmt.Errorf("%s: %w", name, err)
	}
	return Load{
		Name: name, Connections: conns, PerSecond: float64(done.Load()) / time.Since(began).Seconds(),
		P50: times.quantile(0.5), P99: times.quantile(0.99),
	}, nil
}
