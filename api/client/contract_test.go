package client_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"lockstep/api/client"
)

// exchange is one call of a method: what it must send, what comes back, and whether that was read.
type exchange struct {
	want   string // method path?query body
	answer string
	call   func(context.Context, *client.Client) (any, error)
	is     func(any) bool
}

// Every method sends what the contract says, and reads the answer.
func TestMethodsFollowTheContract(t *testing.T) {
	t.Parallel()
	for _, test := range slices.Concat(accountExchanges(), moneyExchanges(), holdExchanges(), adminExchanges(), peerExchanges()) {
		s := play(t, gives(200, test.answer))
		value, err := test.call(t.Context(), s.client())
		if err != nil || !test.is(value) {
			t.Errorf("%s: got %+v, %v", test.want, value, err)
		}
		got := s.requests()[0]
		line := got.method + " " + got.path
		if got.query != "" {
			line += "?" + got.query
		}
		if got.body != "" {
			line += " " + got.body
		}
		if line != test.want || (got.method == "POST") != (got.key != "") {
			t.Errorf("sent %s with key %q, want %s", line, got.key, test.want)
		}
		if anonymous := got.path == "/.well-known/lockstep"; anonymous != (got.token == "") {
			t.Errorf("%s: sent the token %q", test.want, got.token)
		}
	}
}

var korean = time.FixedZone("KST", 9*3600)

func accountExchanges() []exchange {
	frozen := "frozen"
	return []exchange{
		{
			`POST /v1/accounts {"currency":"KRW","label":"L"}`, `{"number":"a","balance":{"available":"1"}}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.OpenAccount(ctx, client.NewAccount{Currency: "KRW", Label: "L"})
			},
			func(v any) bool { return v.(client.Account).Balance.Available == "1" },
		},
		{
			`GET /v1/accounts/a%2Fb`, `{"number":"a/b","created_at":"2026-01-31T00:00:00.000000Z"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Account(ctx, "a/b") },
			func(v any) bool {
				return v.(client.Account).CreatedAt.Equal(time.Date(2026, 1, 31, 9, 0, 0, 0, korean))
			},
		},
		{
			`GET /v1/accounts?limit=3`, `{"accounts":[{"number":"a"}],"next_cursor":null}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Accounts(ctx, client.Page{Limit: 3})
			},
			func(v any) bool { return len(v.(client.Accounts).Accounts) == 1 },
		},
		{
			`PATCH /v1/accounts/a {"status":"frozen"}`, `{"status":"frozen"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.ChangeAccount(ctx, "a", client.AccountChange{Status: &frozen})
			},
			func(v any) bool { return v.(client.Account).Status == "frozen" },
		},
		{
			`GET /v1/accounts/a/entries?cursor=c&limit=2`, `{"entries":[{"sequence":7,"direction":"debit"}],"next_cursor":"d"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Entries(ctx, "a", client.Filter{Page: client.Page{Limit: 2, Cursor: "c"}})
			},
			func(v any) bool {
				return v.(client.Entries).Entries[0].Sequence == 7 && v.(client.Entries).NextCursor == "d"
			},
		},
		{
			`GET /v1/payees/a`, `{"name":"A**"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Payee(ctx, "a") },
			func(v any) bool { return v.(client.Payee).Name == "A**" },
		},
	}
}

func moneyExchanges() []exchange {
	filter := client.Filter{
		Account: "a", Reference: "r 1", State: "posted", Kind: "transfer",
		CreatedFrom: time.Date(2026, 1, 31, 9, 0, 0, 0, korean), Page: client.Page{Limit: 2, Cursor: "c"},
	}
	return []exchange{
		{
			`POST /v1/deposits {"account":"a","amount":"1","currency":"KRW","reference":"r"}`, posted,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Deposit(ctx, client.Cash{Account: "a", Amount: "1", Currency: "KRW", Reference: "r"})
			},
			func(v any) bool { return v.(client.Transfer).Amount == "1500" },
		},
		{
			`POST /v1/withdrawals {"account":"a","amount":"1","currency":"KRW"}`, posted,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Withdraw(ctx, client.Cash{Account: "a", Amount: "1", Currency: "KRW"})
			},
			func(v any) bool { return v.(client.Transfer).ID == "019a" },
		},
		{
			`GET /v1/transfers/019a`, posted,
			func(ctx context.Context, c *client.Client) (any, error) { return c.TransferByID(ctx, "019a") },
			func(v any) bool { return v.(client.Transfer).From == "a" },
		},
		{
			`GET /v1/transfers?account=a&created_from=2026-01-31T00%3A00%3A00Z&cursor=c&kind=transfer&limit=2&reference=r+1&state=posted`, `{"transfers":[` + posted + `]}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Transfers(ctx, filter) },
			func(v any) bool { return len(v.(client.Transfers).Transfers) == 1 },
		},
		{
			`POST /v1/batches {"atomic":false,"transfers":[{"from":"a","to":"b","amount":"1500","currency":"KRW"}]}`,
			`{"results":[` + posted + `,{"code":"insufficient_funds","status":422}]}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Batch(ctx, client.Batch{Transfers: []client.Payment{payment}})
			},
			func(v any) bool {
				r := v.([]client.BatchResult)
				return len(r) == 2 && r[0].Problem == nil && r[0].Transfer.ID == "019a" && r[1].Transfer == nil && r[1].Problem.Code == "insufficient_funds"
			},
		},
	}
}

func holdExchanges() []exchange {
	return []exchange{
		{
			`POST /v1/holds {"account":"a","amount":"5","currency":"KRW","expires_in_seconds":60}`, `{"id":"h","state":"pending"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Hold(ctx, client.NewHold{Account: "a", Amount: "5", Currency: "KRW", ExpiresInSeconds: 60})
			},
			func(v any) bool { return v.(client.Hold).State == "pending" },
		},
		{
			`GET /v1/holds/h`, `{"id":"h"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.HoldByID(ctx, "h") },
			func(v any) bool { return v.(client.Hold).ID == "h" },
		},
		{
			`POST /v1/holds/h/capture {"to":"b"}`, `{"captured":"5"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Capture(ctx, "h", client.Capture{To: "b"})
			},
			func(v any) bool { return v.(client.Hold).Captured == "5" },
		},
		{
			`POST /v1/holds/h/void {}`, `{"state":"voided"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Void(ctx, "h") },
			func(v any) bool { return v.(client.Hold).State == "voided" },
		},
	}
}

func adminExchanges() []exchange {
	return []exchange{
		{
			`GET /v1/proofs/trial-balance`, `{"balanced":true,"currencies":[{"currency":"KRW","entries":"0"}]}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.TrialBalance(ctx) },
			func(v any) bool { return v.(client.TrialBalance).Currencies[0].Entries == "0" },
		},
		{
			`POST /v1/admin/clients {"name":"Till","scopes":["admin"]}`, `{"client_id":"t","client_secret":"s"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.CreateClient(ctx, client.NewOAuthClient{Name: "Till", Scopes: []string{"admin"}})
			},
			func(v any) bool { return v.(client.OAuthClient).Secret == "s" },
		},
		{
			`GET /v1/admin/clients`, `{"clients":[{"client_id":"t"}]}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Clients(ctx, client.Page{}) },
			func(v any) bool { return v.(client.OAuthClients).Clients[0].ClientID == "t" },
		},
		{
			`DELETE /v1/admin/clients/t`, ``,
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.DeleteClient(ctx, "t") },
			func(any) bool { return true },
		},
		{
			`POST /v1/admin/clients/t/rotate {}`, `{"client_id":"t","client_secret":null}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.RotateClient(ctx, "t") },
			func(v any) bool { return v.(string) == "" },
		},
		{
			`GET /v1/admin/nodes`, `{"nodes":[{"id":2,"alive":true}]}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Nodes(ctx) },
			func(v any) bool { return v.([]client.Node)[0].Alive },
		},
		{
			`GET /v1/admin/locks`, `{"servers":[{"address":"r","up":true}],"counts":{"held":3}}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Locks(ctx) },
			func(v any) bool { return v.(client.Locks).Counts.Held == 3 },
		},
		{
			`GET /.well-known/lockstep`, `{"system":"alpha"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.System(ctx) },
			func(v any) bool { return v.(client.System).System == "alpha" },
		},
	}
}

func peerExchanges() []exchange {
	return []exchange{
		{
			`POST /v1/transfers {"from":"a","to":"b","amount":"1","currency":"KRW"}`,
			`{"id":"t","state":"pending","timeline":[{"at":"2026-01-31T00:00:00.000000Z","step":"held","detail":"1 KRW"}]}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Transfer(ctx, client.Payment{From: "a", To: "b", Amount: "1", Currency: "KRW"})
			},
			func(v any) bool {
				return v.(client.Transfer).FinishedAt.IsZero() && v.(client.Transfer).Timeline[0].Step == "held"
			},
		},
		{
			`GET /v1/transfers/t`, `{"id":"t","state":"voided","failure":{"code":"peer_refused","detail":"no"},"finished_at":"2026-01-31T00:00:00.000000Z"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.TransferByID(ctx, "t") },
			func(v any) bool { return v.(client.Transfer).Failure.Code == "peer_refused" },
		},
		{
			`GET /v1/admin/peers`, `{"system":"alpha","peers":[{"id":"beta","reach":"up","exposures":[{"currency":"KRW","open":"-9"}]}]}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Peers(ctx) },
			func(v any) bool { return v.(client.Neighbours).Peers[0].Exposures[0].Open == "-9" },
		},
		{
			`GET /v1/admin/sagas?limit=3&state=stuck`, `{"sagas":[{"id":"t","transfer":{"state":"pending"}}]}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Sagas(ctx, "stuck", 3) },
			func(v any) bool { return v.([]client.Saga)[0].Transfer.State == "pending" },
		},
		{
			`POST /v1/admin/sagas/t/retry {}`, `{"id":"t","state":"running"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.RetrySaga(ctx, "t") },
			func(v any) bool { return v.(client.Saga).State == "running" },
		},
		{
			`POST /v1/admin/sagas/t/abort {}`, `{"id":"t","transfer":{"state":"voided"}}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.AbortSaga(ctx, "t") },
			func(v any) bool { return v.(client.Saga).Transfer.State == "voided" },
		},
		{
			`GET /v1/admin/dead-letters`, `{"broker":"up","dead_letters":[{"id":"l","source":"peer","transfer_ids":["t"]}]}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.DeadLetters(ctx) },
			func(v any) bool { return v.(client.DeadLetters).Letters[0].TransferIDs[0] == "t" },
		},
		{
			`POST /v1/admin/dead-letters/l/replay {}`, `{"id":"l","state":"replayed"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.ReplayDeadLetter(ctx, "l") },
			func(any) bool { return true },
		},
	}
}
