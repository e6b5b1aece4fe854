package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"lockstep/api/auth"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// route is one line of the contract. The OpenAPI file has the same lines; a test holds them equal. Who may use it stands
// in the file alone.
type route struct {
	method string
	path   string // as OpenAPI writes it
	keyed  bool   // needs an Idempotency-Key
	serve  func(*exchange) error
}

// name is what claims, logs and metrics call the route.
func (r route) name() string { return r.method + " " + r.path }

// fiberPath writes {id} as :id.
func fiberPath(path string) string {
	return strings.NewReplacer("{", ":", "}", "").Replace(path)
}

func (s *Server) routes() []route {
	return slices.Concat(systemRoutes(), peopleRoutes(), moneyRoutes(), walletRoutes(), peerRoutes(), webhookRoutes(), operatorRoutes())
}

func systemRoutes() []route {
	return []route{
		{"GET", "/livez", false, (*exchange).live},
		{"GET", "/readyz", false, (*exchange).ready},
		{"GET", "/openapi.yaml", false, (*exchange).getOpenAPI},
		{"GET", "/docs", false, (*exchange).getDocs},
		{"GET", "/problems/{code}", false, (*exchange).getProblem},
		{"GET", "/.well-known/jwks.json", false, (*exchange).getKeys},
		{"GET", "/.well-known/lockstep", false, (*exchange).getSystem},
		{"POST", "/v1/oauth/token", false, (*exchange).postToken},
	}
}

func peopleRoutes() []route {
	return []route{
		{"POST", "/v1/auth/register", false, (*exchange).postRegister},
		{"POST", "/v1/auth/login", false, (*exchange).postLogin},
		{"POST", "/v1/auth/refresh", false, (*exchange).postRefresh},
		{"POST", "/v1/auth/logout", false, (*exchange).postLogout},
		{"POST", "/v1/auth/password", false, (*exchange).postPassword},
		{"GET", "/v1/me", false, (*exchange).getMe},
		{"GET", "/v1/me/sessions", false, (*exchange).getSessions},
		{"DELETE", "/v1/me/sessions", false, (*exchange).deleteSessions},
		{"GET", "/v1/auth/google/login", false, (*exchange).getLogin},
		{"GET", CallbackPath, false, (*exchange).getCallback},
	}
}

func moneyRoutes() []route {
	return []route{
		{"POST", "/v1/accounts", true, (*exchange).postAccount},
		{"GET", "/v1/accounts", false, (*exchange).getAccounts},
		{"GET", "/v1/accounts/{number}", false, (*exchange).getAccount},
		{"PATCH", "/v1/accounts/{number}", false, (*exchange).patchAccount},
		{"GET", "/v1/accounts/{number}/entries", false, (*exchange).getEntries},
		{"GET", "/v1/payees/{number}", false, (*exchange).getPayee},

		{"POST", "/v1/deposits", true, (*exchange).postDeposit},
		{"POST", "/v1/withdrawals", true, (*exchange).postWithdrawal},
		{"POST", "/v1/transfers", true, (*exchange).postTransfer},
		{"GET", "/v1/transfers", false, (*exchange).getTransfers},
		{"GET", "/v1/transfers/{id}", false, (*exchange).getTransfer},
		{"POST", "/v1/batches", true, (*exchange).postBatch},

		{"POST", "/v1/holds", true, (*exchange).postHold},
		{"GET", "/v1/holds/{id}", false, (*exchange).getHold},
		{"POST", "/v1/holds/{id}/capture", true, (*exchange).captureHold},
		{"POST", "/v1/holds/{id}/void", true, (*exchange).voidHold},
	}
}

func walletRoutes() []route {
	return []route{
		{"GET", "/", false, (*exchange).getWallet},
		{"GET", "/wallet", false, (*exchange).getWallet},
		{"GET", "/wallet/sign-in", false, (*exchange).getWalletSignIn},
		{"GET", "/wallet/register", false, (*exchange).getWalletRegister},
		{"GET", "/wallet/open", false, (*exchange).getWalletOpen},
		{"GET", "/wallet/deposit", false, (*exchange).getWalletDeposit},
		{"GET", "/wallet/withdraw", false, (*exchange).getWalletWithdraw},
		{"GET", "/wallet/send", false, (*exchange).getWalletSend},
		{"GET", "/wallet/settings", false, (*exchange).getWalletSettings},
		{"GET", "/wallet/accounts/{number}", false, (*exchange).getWalletAccount},
		{"GET", "/wallet/accounts/{number}/statement.csv", false, (*exchange).getWalletExport},
		{"GET", "/wallet/transfers/{id}", false, (*exchange).getWalletTransfer},
		{"GET", "/wallet/transfers/{id}/events", false, (*exchange).getWalletEvents},
		{"GET", "/wallet/assets/{name}", false, (*exchange).getWalletAsset},
	}
}

func peerRoutes() []route {
	return []route{
		{"GET", "/peer/v1/jwks.json", false, (*exchange).getPeerKeys},
		{"POST", "/peer/v1/transfers", false, (*exchange).postPeerTransfers},
		{"GET", "/peer/v1/transfers", false, (*exchange).getPeerTransfers},
		{"GET", "/peer/v1/digest", false, (*exchange).getPeerDigest},
		{"GET", "/peer/v1/transfers/{payer}/{id}", false, (*exchange).getPeerTransfer},
		{"POST", "/peer/v1/inquiries", false, (*exchange).postPeerInquiries},
		{"POST", "/peer/v1/epoch", false, (*exchange).postPeerEpoch},
		{"GET", "/peer/v1/payees/{number}", false, (*exchange).getPeerPayee},
	}
}

func webhookRoutes() []route {
	return []route{
		{"GET", "/v1/webhooks", false, (*exchange).getWebhooks},
		{"POST", "/v1/webhooks", true, (*exchange).postWebhook},
		{"DELETE", "/v1/webhooks/{id}", false, (*exchange).deleteWebhook},
		{"GET", "/v1/webhooks/{id}/deliveries", false, (*exchange).getDeliveries},
		{"POST", "/v1/webhooks/{id}/deliveries/{delivery}/replay", true, (*exchange).replayDelivery},
	}
}

func operatorRoutes() []route {
	return []route{
		{"GET", "/v1/proofs/trial-balance", false, (*exchange).getTrialBalance},

		{"GET", "/v1/admin/nodes", false, (*exchange).getNodes},
		{"GET", "/v1/admin/locks", false, (*exchange).getLocks},
		{"GET", "/v1/admin/peers", false, (*exchange).getPeers},
		{"GET", "/v1/admin/sagas", false, (*exchange).getSagas},
		{"POST", "/v1/admin/sagas/{id}/retry", true, (*exchange).retrySaga},
		{"POST", "/v1/admin/sagas/{id}/abort", true, (*exchange).abortSaga},
		{"GET", "/v1/admin/dead-letters", false, (*exchange).getDeadLetters},
		{"POST", "/v1/admin/dead-letters/{id}/replay", true, (*exchange).replayDeadLetter},
		{"GET", "/v1/admin/clients", false, (*exchange).getClients},
		{"POST", "/v1/admin/clients", true, (*exchange).postClient},
		{"DELETE", "/v1/admin/clients/{id}", false, (*exchange).deleteClient},
		{"POST", "/v1/admin/clients/{id}/rotate", true, (*exchange).rotateClient},
	}
}

// Queries are the reads that the edge needs; *store.Queries has them. A row that is not there is store.ErrMiss.
type Queries interface {
	Account(ctx context.Context, id ledger.AccountID) (ledger.Account, error)
	Accounts(ctx context.Context, filter store.AccountFilter) ([]ledger.Account, error)
	Entries(ctx context.Context, filter store.EntryFilter) ([]store.EntryRow, error)
	Transfer(ctx context.Context, id ledger.TransferID) (ledger.Transfer, error)
	Remittances(ctx context.Context, ids []ledger.TransferID) (map[ledger.TransferID]ledger.Remittance, error)
	Transfers(ctx context.Context, filter store.TransferFilter) (store.TransferPage, error)
	Hold(ctx context.Context, id ledger.HoldID) (ledger.Hold, error)
	TrialBalance(ctx context.Context) ([]store.CurrencyBalance, error)
	Nodes(ctx context.Context) ([]store.NodeRow, error)
	Peers(ctx context.Context) ([]store.PeerRow, error)
	Exposures(ctx context.Context) ([]ledger.Exposure, error)
	Webhooks(ctx context.Context, principal, after string, limit int) ([]store.Webhook, error)
	Webhook(ctx context.Context, principal, id string) (store.Webhook, error)
	Deliveries(ctx context.Context, filter store.DeliveryFilter) ([]store.Delivery, error)
}

// Store is what the edge needs of the database beside the engine. Over makes one of a *store.Store.
type Store interface {
	Read(ctx context.Context, want store.Consistency, fn func(ctx context.Context, q Queries) error) (store.ReadFrom, error)
	// Once and Change run work in a transaction on the source, Once under the claim of an Idempotency-Key.
	Once(ctx context.Context, claim store.Claim, work store.Work) (answer store.Answer, replayed bool, token store.Token, err error)
	Change(ctx context.Context, work func(ctx context.Context, tx *store.Tx) error) (store.Token, error)
	CreateAccount(ctx context.Context, tx *store.Tx, account ledger.Account) (ledger.Account, error)
}

// Authority is what the edge needs of package auth; *auth.Authority has it.
type Authority interface {
	Authenticate(ctx context.Context, authorization string) (auth.Principal, error)
	Token(ctx context.Context, clientID, clientSecret, scope string) (auth.TokenAnswer, error)
	JWKS() []byte
	ListClients(ctx context.Context, after string, limit int) ([]auth.Client, error)
	CreateClient(ctx context.Context, tx auth.Tx, asked auth.NewClient) (auth.Client, string, error)
	DeleteClient(ctx context.Context, tx auth.Tx, id string) error
	RotateClient(ctx context.Context, tx auth.Tx, id string, overlap time.Duration) (string, error)
}

// Over makes the edge's view of a store.
func Over(s *store.Store) Store { return database{s} }

type database struct{ *store.Store }

func (d database) Read(ctx context.Context, want store.Consistency, fn func(ctx context.Context, q Queries) error) (store.ReadFrom, error) {
	return d.Store.Read(ctx, want, func(ctx context.Context, q *store.Queries) error { return fn(ctx, q) })
}

func (d database) Change(ctx context.Context, work func(ctx context.Context, tx *store.Tx) error) (store.Token, error) {
	tx, err := d.Begin(ctx)
	if err != nil {
		return "", err
	}
	defer tx.Rollback()
	if err := work(ctx, tx); err != nil {
		return "", err
	}
	return tx.Commit(ctx)
}

func (d database) CreateAccount(ctx context.Context, tx *store.Tx, account ledger.Account) (ledger.Account, error) {
	return tx.CreateAccount(ctx, account)
}
