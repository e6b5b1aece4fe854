package auth_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/api/auth"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

func decodePart(t testing.TB, bearer string, part int) []byte {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(strings.TrimPrefix(bearer, "Bearer "), ".")[part])
	must(t, err)
	return text
}

// create makes a client as the edge does.
func (n node) create(t testing.TB, asked auth.NewClient) (client auth.Client, secret string, err error) {
	t.Helper()
	err = inTx(t, n.db, func(tx auth.Tx) error {
		client, secret, err = n.CreateClient(t.Context(), tx, asked)
		return err
	})
	return client, secret, err
}

// A made client can sign in at once on every node, acts for its owner, and its secret is not in the database.
func TestANewClientSignsInEverywhere(t *testing.T) {
	t.Parallel()
	here, elsewhere, _ := twoNodes(t)
	_, err := elsewhere.Token(t.Context(), "till", "too early", "")
	wantTokenError(t, err, auth.InvalidClient)
	client, secret, err := here.create(t, auth.NewClient{ID: "till", Name: "가게 till", Scopes: auth.AllScopes, Owner: "user:alice"})
	must(t, err)
	if raw, err := base64.RawURLEncoding.DecodeString(secret); err != nil || len(raw) != 32 {
		t.Errorf("the secret has %d bytes: %v", len(raw), err)
	}
	answer, err := elsewhere.Token(t.Context(), client.ID, secret, "")
	must(t, err)
	principal, err := elsewhere.Authenticate(t.Context(), "Bearer "+answer.AccessToken)
	must(t, err)
	if principal.Caller != "client:till" || principal.Owner != "user:alice" || !principal.Operator() {
		t.Errorf("principal %+v", principal)
	}
	var stored []byte
	must(t, here.db.Source().QueryRow("SELECT CONCAT(id, name, secret_hash, scopes, owner) FROM clients").Scan(&stored))
	if bytes.Contains(stored, []byte(secret)) {
		t.Error("the secret is in the database")
	}
}

func TestClientsAreListedInPages(t *testing.T) {
	t.Parallel()
	here, _, _ := twoNodes(t)
	for _, id := range []string{"c", "a", "d", "b"} {
		_, _, err := here.create(t, auth.NewClient{ID: id, Name: "N " + id, Scopes: auth.AllScopes})
		must(t, err)
	}
	must(t, here.delete(t, "b"))
	var seen []string
	for after := ""; ; {
		page, err := here.ListClients(t.Context(), after, 2)
		must(t, err)
		if len(page) == 0 {
			break
		}
		for _, client := range page {
			seen, after = append(seen, client.ID+"="+client.Name), client.ID
		}
	}
	if got := strings.Join(seen, ","); got != "a=N a,c=N c,d=N d" {
		t.Errorf("listed %s", got)
	}
}

func TestClientsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	here, _, _ := twoNodes(t)
	good := auth.NewClient{ID: "x", Name: "x", Scopes: auth.AllScopes}
	for name, change := range map[string]func(*auth.NewClient){
		"blank in id": func(c *auth.NewClient) { c.ID = "a b" }, "long id": func(c *auth.NewClient) { c.ID = strings.Repeat("a", 65) },
		"id of dots": func(c *auth.NewClient) { c.ID = ".." }, "no name": func(c *auth.NewClient) { c.Name = "" },
		"control in name": func(c *auth.NewClient) { c.Name = "a\nb" }, "long name": func(c *auth.NewClient) { c.Name = strings.Repeat("가", 101) },
		"no utf-8": func(c *auth.NewClient) { c.Name = "\xff" }, "no scope": func(c *auth.NewClient) { c.Scopes = 0 },
		"unknown scope bit": func(c *auth.NewClient) { c.Scopes = 1 << 15 }, "owner of no kind": func(c *auth.NewClient) { c.Owner = "alice" },
	} {
		asked := good
		change(&asked)
		_, _, err := here.create(t, asked)
		if ledger.CodeOf(err) != ledger.InvalidRequest {
			t.Errorf("%s: got %v", name, err)
		}
		if err := here.PutClient(t.Context(), asked, shopSecret); ledger.CodeOf(err) != ledger.InvalidRequest {
			t.Errorf("%s: put got %v", name, err)
		}
	}
	wantCode(t, here.PutClient(t.Context(), good, "short"), ledger.InvalidRequest)
	good.ID = ""
	wantCode(t, here.PutClient(t.Context(), good, shopSecret), ledger.InvalidRequest)
	client, _, err := here.create(t, good)
	must(t, err)
	if len(client.ID) != 20 {
		t.Errorf("chosen id %q", client.ID)
	}
}

// An id that was ever used stays taken, and asking for it changes nothing.
func TestATakenIDIsRefused(t *testing.T) {
	t.Parallel()
	here, _, _ := twoNodes(t)
	asked := auth.NewClient{ID: "till", Name: "Till", Scopes: auth.AllScopes}
	_, secret, err := here.create(t, asked)
	must(t, err)
	_, _, err = here.create(t, asked)
	wantCode(t, err, ledger.InvalidState)
	_, err = here.Token(t.Context(), "till", secret, "")
	must(t, err)
	must(t, here.delete(t, "till"))
	_, _, err = here.create(t, asked)
	wantCode(t, err, ledger.InvalidState)
}

// A deletion reaches a node that knew the client within ClientFreshFor, for tokens and for secrets.
func TestADeletedClientIsRefusedWithinTheBound(t *testing.T) {
	t.Parallel()
	here, elsewhere, clock := twoNodes(t)
	putShop(t, here.Authority)
	token := shopToken(t, elsewhere.Authority)
	_, err := elsewhere.Authenticate(t.Context(), token)
	must(t, err)
	must(t, here.delete(t, "shop"))
	clock.Advance(auth.ClientFreshFor)
	_, err = elsewhere.Authenticate(t.Context(), token)
	wantCode(t, err, ledger.Unauthenticated)
	_, err = elsewhere.Token(t.Context(), "shop", shopSecret, "")
	wantTokenError(t, err, auth.InvalidClient)
	wantCode(t, here.delete(t, "shop"), ledger.NotFound)
	wantCode(t, here.delete(t, "nobody"), ledger.NotFound)
}

// After a rotation the new secret works at once, also where the old one is remembered; the old one ends within the
// bound; tokens live on.
func TestARotatedSecretReplacesTheOldOne(t *testing.T) {
	t.Parallel()
	here, elsewhere, clock := twoNodes(t)
	putShop(t, here.Authority)
	token := shopToken(t, elsewhere.Authority)
	var secret string
	must(t, inTx(t, here.db, func(tx auth.Tx) (err error) {
		secret, err = here.RotateClient(t.Context(), tx, "shop", 0)
		return err
	}))
	_, err := elsewhere.Token(t.Context(), "shop", secret, "")
	must(t, err)
	clock.Advance(auth.ClientFreshFor)
	_, err = elsewhere.Token(t.Context(), "shop", shopSecret, "")
	wantTokenError(t, err, auth.InvalidClient)
	_, err = elsewhere.Authenticate(t.Context(), token)
	must(t, err)
	wantCode(t, inTx(t, here.db, func(tx auth.Tx) error {
		_, err := here.RotateClient(t.Context(), tx, "nobody", 0)
		return err
	}), ledger.NotFound)
}

// Putting twice is putting once; putting something else replaces it, and scopes that were taken away are gone from
// tokens that are out.
func TestPuttingAClientMakesItSo(t *testing.T) {
	t.Parallel()
	here, elsewhere, clock := twoNodes(t)
	asked := auth.NewClient{ID: "till", Name: "Till", Scopes: mustScopes(t, "admin money:read")}
	for range 2 {
		must(t, here.PutClient(t.Context(), asked, shopSecret))
	}
	clients, err := here.ListClients(t.Context(), "", 0)
	must(t, err)
	if len(clients) != 1 || clients[0].Scopes != asked.Scopes || !clients[0].RotatedAt.IsZero() || !clients[0].CreatedAt.Equal(clock.Now().Truncate(time.Microsecond)) {
		t.Fatalf("listed %+v", clients)
	}
	answer, err := elsewhere.Token(t.Context(), "till", shopSecret, "")
	must(t, err)
	asked.Scopes, asked.Owner, asked.Name = mustScopes(t, "money:read"), "client:shop", "Till 2"
	clock.Advance(auth.ClientFreshFor)
	must(t, here.PutClient(t.Context(), asked, strings.ToUpper(shopSecret)))
	principal, err := elsewhere.Authenticate(t.Context(), "Bearer "+answer.AccessToken)
	must(t, err)
	if principal.Operator() || principal.Owner != "client:shop" || principal.Caller != "client:till" {
		t.Errorf("principal %+v", principal)
	}
	clients, err = here.ListClients(t.Context(), "", 0)
	must(t, err)
	if clients[0].Name != "Till 2" || !clients[0].RotatedAt.Equal(clock.Now().Truncate(time.Microsecond)) {
		t.Errorf("listed %+v", clients[0])
	}
}

// A client's webhooks hear of its owner's accounts, so it keeps the owner as long as it has any; anything else may change.
func TestAClientWithWebhooksKeepsItsOwner(t *testing.T) {
	t.Parallel()
	here, _, _ := twoNodes(t)
	putShop(t, here.Authority)
	tx, err := here.db.Begin(t.Context())
	must(t, err)
	defer tx.Rollback()
	must(t, store.InsertWebhook(t.Context(), tx, store.Webhook{ID: uuid.NewString(), Principal: "client:shop", Owner: "client:shop", Secret: []byte("s"), CreatedAt: time.Now()}))
	_, err = tx.Commit(t.Context())
	must(t, err)
	asked := auth.NewClient{ID: "shop", Name: "The shop", Scopes: auth.AllScopes, Owner: "user:alice"}
	wantCode(t, here.PutClient(t.Context(), asked, shopSecret), ledger.InvalidState)
	clients, err := here.ListClients(t.Context(), "", 0)
	must(t, err)
	if clients[0].Owner != "" || clients[0].Scopes == auth.AllScopes {
		t.Errorf("what was refused made the client %+v", clients[0])
	}
	for _, same := range []string{"", "client:shop"} {
		asked.Owner = same
		must(t, here.PutClient(t.Context(), asked, shopSecret))
	}
	_, err = here.db.Source().ExecContext(t.Context(), "DELETE FROM webhooks")
	must(t, err)
	asked.Owner = "user:alice"
	must(t, here.PutClient(t.Context(), asked, shopSecret))
}

// Deleting ends a client's tokens for good: putting it again does not bring them back.
func TestAClientPutAgainDoesNotReviveItsOldTokens(t *testing.T) {
	t.Parallel()
	here, elsewhere, clock := twoNodes(t)
	putShop(t, here.Authority)
	stolen := shopToken(t, here.Authority)
	clock.Advance(time.Minute)
	must(t, here.delete(t, "shop"))
	putShop(t, here.Authority)
	_, err := elsewhere.Authenticate(t.Context(), stolen)
	wantCode(t, err, ledger.Unauthenticated)
	_, err = elsewhere.Authenticate(t.Context(), shopToken(t, here.Authority))
	must(t, err)
}

// While the database is away, clients that the node knows go on with their tokens; nobody gets a new one, and it is no
// client's fault.
func TestKnownClientsOutliveAnOutage(t *testing.T) {
	t.Parallel()
	here, elsewhere, clock := twoNodes(t)
	putShop(t, here.Authority)
	token := shopToken(t, here.Authority)
	_, err := here.Authenticate(t.Context(), token)
	must(t, err)
	must(t, here.db.Source().Close())
	for range 3 {
		clock.Advance(auth.ClientFreshFor)
		_, err = here.Authenticate(t.Context(), token)
		must(t, err)
		_, err = here.Token(t.Context(), "shop", shopSecret, "")
		wantCode(t, err, ledger.SourceUnavailable)
	}
	_, err = elsewhere.Authenticate(t.Context(), token)
	wantCode(t, err, ledger.SourceUnavailable)
}

// A client is not read again within ClientFreshFor: nobody notices here that its row is gone.
func TestRequestsDoNotReadTheirClientEachTime(t *testing.T) {
	t.Parallel()
	here, _, _ := twoNodes(t)
	putShop(t, here.Authority)
	token := shopToken(t, here.Authority)
	_, err := here.db.Source().Exec("DELETE FROM clients")
	must(t, err)
	for range 1000 {
		_, err := here.Authenticate(t.Context(), token)
		must(t, err)
		shopToken(t, here.Authority)
	}
}
