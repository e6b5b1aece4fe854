package node_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lockstep/node"
	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
	"lockstep/saga"
)

// The log can be read and a parked saga be gone on with while no node runs.
func TestSagasAreSteeredWithoutANode(t *testing.T) {
	t.Parallel()
	config := storetest.Config(t)
	db := storetest.OpenWith(t, config)
	path := write(t, "node.yaml", fmt.Sprintf("system: alpha\nlocks: off\nsecret: %s\nmysql: {source: %q}\n", strings.Repeat("s", 40), config.Source))
	const waiting, parked = "019a8c1e-6f0a-7c6e-8a33-0f5b1f0c9d2e", "019a8c1e-6f0a-7c6e-8a33-0f5b1f0c9d2f"
	begin(t, db, waiting, parked)
	flags := node.ConfigFlags{Config: path}
	list := func(state string) string {
		t.Helper()
		var out bytes.Buffer
		if err := (&node.ListSagasCommand{ConfigFlags: flags, State: state, Limit: 10}).Run(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := list("pending"); !strings.Contains(got, waiting) || strings.Contains(got, parked) {
		t.Errorf("pending are\n%s", got)
	}
	if got := list("parked"); strings.Contains(got, waiting) || !strings.Contains(got, parked) || !strings.Contains(got, "a conflict") {
		t.Errorf("parked are\n%s", got)
	}
	var out bytes.Buffer
	if err := (&node.ShowSagaCommand{ConfigFlags: flags, ID: parked}).Run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{parked, "parked", "a conflict", "pending, from alpha to beta", "12.34 USD", "beta-"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("it is shown without %q:\n%s", part, &out)
		}
	}
	if err := (&node.RetrySagaCommand{ConfigFlags: flags, ID: parked}).Run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if got := list("pending"); !strings.Contains(got, parked) {
		t.Errorf("pending are\n%s", got)
	}
	told := announceParked(t, db)
	if got := list("pending"); strings.Contains(got, told) {
		t.Errorf("pending are\n%s", got)
	}
	for _, part := range []string{told, "attempt 25", "to beta: the broker refuses it"} {
		if got := list("parked"); !strings.Contains(got, part) {
			t.Errorf("a message that could not be published is listed without %q:\n%s", part, got)
		}
	}
	if err := (&node.RetrySagaCommand{ConfigFlags: flags, ID: told}).Run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if got := list("parked"); got != "" {
		t.Errorf("after all was retried parked are\n%s", got)
	}
	for _, run := range []func() error{
		func() error { return (&node.ShowSagaCommand{ConfigFlags: flags, ID: "none"}).Run(t.Context(), &out) },
		func() error { return (&node.RetrySagaCommand{ConfigFlags: flags, ID: "none"}).Run(t.Context(), &out) },
	} {
		if err := run(); err == nil {
			t.Error("a saga that is not there was found")
		}
	}
}

// begin writes two sagas, each with its transfer, and parks the second.
func begin(t *testing.T, db *store.Store, waiting, parked string) {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for _, id := range []string{waiting, parked} {
		store.InsertRemittances(tx, []ledger.Remittance{{
			ID: ledger.TransferID(id), Payer: "alpha", Payee: "beta", State: ledger.Pending, PayerEpoch: 1, ExpiresAt: now, CreatedAt: now,
			Transfer: &ledger.Transfer{
				ID: ledger.TransferID(id), Kind: ledger.Payment, State: ledger.Pending, From: ledger.NewNumber("alpha", 1000), To: ledger.NewNumber("beta", 1000),
				Amount: ledger.Money{Minor: 1234, Currency: "USD"}, CreatedAt: now,
			},
		}})
		if _, err := tx.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := saga.Start(saga.New{ID: waiting, Kind: "remit"}, saga.New{ID: parked, Kind: "remit"}).Exec(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE sagas SET state = 'parked', parked_from = 'running', reason = 'a conflict' WHERE id = ?`, parked); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// announceParked writes a message that could not be published.
func announceParked(t *testing.T, db *store.Store) (id string) {
	t.Helper()
	id = "019a8c1e-6f0a-7c6e-8a33-0f5b1f0c9d30"
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if err := saga.Announce(saga.Message{ID: id, Destination: "beta", Events: []byte(`[]`)}).Exec(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE saga_outbox SET attempt = 25, parked_at = UTC_TIMESTAMP(6), reason = 'the broker refuses it' WHERE id = ?`, id); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return id
}

// An abort is asked for at a running node, as the operator, and its refusal is told.
func TestAnAbortAsksARunningNode(t *testing.T) {
	refuse := false
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := func(status int, kind string, body any) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			if err := json.NewEncoder(w).Encode(body); err != nil {
				t.Error(err)
			}
		}
		switch {
		case r.URL.Path == "/v1/oauth/token":
			if id, secret, _ := r.BasicAuth(); id != "operator" || secret != "from-the-file" {
				t.Errorf("the client is %s with %q", id, secret)
			}
			answer(200, "application/json", map[string]any{"access_token": "token", "token_type": "Bearer", "expires_in": 900})
		case r.Method+" "+r.URL.Path != "POST /v1/admin/sagas/t1/abort" || r.Header.Get("Idempotency-Key") == "":
			t.Errorf("asked %s %s", r.Method, r.URL)
		case refuse:
			answer(409, "application/problem+json", map[string]any{"code": "invalid_state", "outcome": "not_applied", "detail": "After its pivot it only goes forward."})
		default:
			answer(200, "application/json", map[string]any{"id": "t1", "state": "done", "transfer": map[string]any{"state": "voided"}})
		}
	}))
	defer served.Close()
	var out bytes.Buffer
	abort := node.AbortSagaCommand{ID: "t1", URL: served.URL, ClientID: "operator", SecretFile: write(t, "secret", "from-the-file\n")}
	if err := abort.Run(t.Context(), &out); err != nil || out.String() != "t1 is voided\n" {
		t.Errorf("got %q, %v", &out, err)
	}
	refuse = true
	if err := abort.Run(t.Context(), &out); err == nil || !strings.Contains(err.Error(), "only goes forward") {
		t.Errorf("got %v", err)
	}
	abort.SecretFile = ""
	if err := abort.Run(t.Context(), &out); err == nil || !strings.Contains(err.Error(), "LOCKSTEP_CLIENT_SECRET") {
		t.Errorf("got %v", err)
	}
	t.Setenv("LOCKSTEP_CLIENT_SECRET", "from-the-file")
	if err := abort.Run(t.Context(), &out); err == nil || !strings.Contains(err.Error(), "only goes forward") {
		t.Errorf("got %v", err)
	}
}

// An operator's own variables do not stop the commands that read a configuration.
func TestTheOperatorsClientIsNoPartOfTheConfiguration(t *testing.T) {
	for _, name := range []string{"LOCKSTEP_CLIENT_ID", "LOCKSTEP_CLIENT_SECRET", "LOCKSTEP_CLIENT_SECRET_FILE"} {
		t.Setenv(name, "x")
	}
	if _, err := node.Load(write(t, "node.yaml", sound), nil); err != nil {
		t.Error(err)
	}
	t.Setenv("LOCKSTEP_COLOUR", "red")
	if _, err := node.Load(write(t, "node.yaml", sound), nil); err == nil {
		t.Error("an unknown variable was passed over")
	}
}
