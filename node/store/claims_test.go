package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

func claim(key, body string) store.Claim {
	return store.Claim{
		Principal: "client:shop", Route: "POST /v1/transfers", Key: key, Fingerprint: sha256.Sum256([]byte(body)),
		Language: "en", RequestID: "r-" + key,
	}
}

func claimRow(s *store.Store, c store.Claim) store.ClaimRow {
	return store.ClaimRow{ID: c.ID(), Claim: c, CommandID: uuid.NewString(), CreatedAt: s.Now()}
}

// propose claims keys that may have a row.
func propose(ctx context.Context, tx *store.Tx, rows ...store.ClaimRow) error {
	store.ProposeClaims(tx, rows)
	return flush(ctx, tx)
}

func flush(ctx context.Context, tx *store.Tx) error {
	_, err := tx.Flush(ctx)
	return err
}

func readClaim(tb testing.TB, tx *store.Tx, id string) store.ClaimRow {
	tb.Helper()
	rows, err := store.ReadClaims(testContext(tb), tx, []string{id})
	must(tb, err)
	return rows[id]
}

func TestOneCommandHoldsAKey(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	ctx := testContext(t)
	first, second := claimRow(s, claim("k", "body")), claimRow(s, claim("k", "body"))

	tx := begin(t, s)
	must(t, propose(ctx, tx, first, second))
	held := readClaim(t, tx, first.ID)
	if mine, hers := held.CommandID == first.CommandID, held.CommandID == second.CommandID; mine == hers {
		t.Errorf("two commands of one batch and one key: first holds it %v, second %v", mine, hers)
	}
	waited := make(chan error, 1)
	other := begin(t, s)
	go func() { waited <- propose(ctx, other, claimRow(s, claim("k", "body"))) }()
	first.Answer = &store.Answer{Status: 201, Location: "/x", ContentType: "application/json", Body: []byte("{}")}
	must(t, store.AnswerClaims(ctx, tx, []store.ClaimRow{first}))
	_, err := tx.Flush(ctx)
	must(t, err)
	_, err = tx.Commit(ctx)
	must(t, err)
	must(t, <-waited)
	again := readClaim(t, other, first.ID)
	if again.CommandID != held.CommandID {
		t.Error("a command of another transaction took over a key that was held")
	}
	if again.Answer == nil || again.Answer.Status != 201 || !bytes.Equal(again.Answer.Body, []byte("{}")) {
		t.Errorf("the answer under the key is %+v", again.Answer)
	}
	if again.Claim != first.Claim {
		t.Errorf("the claim was read back as %+v", again.Claim)
	}
}

// A column that cuts would make two keys one.
func TestLongKeysStayDistinct(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	long := strings.Repeat("k", 299)
	first, second := claim(long+"1", "body"), claim(long+"2", "body")
	if first.ID() == second.ID() {
		t.Error("two long keys have one claim")
	}
	tx := begin(t, s)
	if err := propose(testContext(t), tx, claimRow(s, first)); number(err) != 1406 {
		t.Errorf("a key of 300 bytes was stored, cut: %v", err)
	}
	parts := []store.Claim{{Principal: "ab", Route: "c"}, {Principal: "a", Route: "bc"}}
	if parts[0].ID() == parts[1].ID() {
		t.Error("the parts of a claim run into one another")
	}
}

// Many transactions claim the same keys, each in an order of its own.
func TestClaimsAreTakenInOneOrder(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	const rounds, width, keys = 10, 4, 200
	for round := range rounds {
		var group errgroup.Group
		for worker := range width {
			rows := make([]store.ClaimRow, keys)
			for i := range rows {
				rows[i] = claimRow(s, claim(fmt.Sprintf("%d-%d", round, i), "body"))
			}
			slices.SortFunc(rows, func(a, b store.ClaimRow) int { return strings.Compare(a.ID, b.ID) })
			if worker%2 == 1 {
				slices.Reverse(rows)
			}
			group.Go(func() error { return claimAll(testContext(t), s, rows) })
		}
		if err := group.Wait(); err != nil {
			t.Fatalf("claims in opposite orders met: %v", err)
		}
	}
}

func claimAll(ctx context.Context, s *store.Store, rows []store.ClaimRow) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := propose(ctx, tx, rows...); err != nil {
		return err
	}
	_, err = tx.Commit(ctx)
	return err
}

func TestAnswersOfABatchMayBeLarge(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	ctx, tx := testContext(t), begin(t, s)
	rows := make([]store.ClaimRow, 6) // 20 MB in all, more than a server takes at once
	var ids []string
	for i := range rows {
		rows[i] = claimRow(s, claim(fmt.Sprint(i), "body"))
		rows[i].Answer = &store.Answer{Status: 201, Body: bytes.Repeat([]byte{'\''}, 2<<20)}
		ids = append(ids, rows[i].ID)
	}
	rows[3].Answer, rows[3].TransferID, rows[3].Renderer = nil, uuid.NewString(), 7
	bare := slices.Clone(rows)
	for i := range bare {
		bare[i].Answer = nil
	}
	store.InsertClaims(tx, bare)
	must(t, store.AnswerClaims(ctx, tx, rows))
	store.DeleteClaims(tx, ids[:1])
	_, err := tx.Flush(ctx)
	must(t, err)
	found, err := store.ReadClaims(ctx, tx, ids)
	must(t, err)
	if _, there := found[ids[0]]; there || len(found) != len(rows)-1 {
		t.Errorf("%d claims are there after one of %d was given back", len(found), len(rows))
	}
	for _, row := range rows[1:] {
		got := found[row.ID]
		if got.TransferID != row.TransferID || got.Renderer != row.Renderer || (got.Answer == nil) != (row.Answer == nil) {
			t.Fatalf("claim %s was read back as %+v", row.Claim.Key, got)
		}
		if row.Answer != nil && !bytes.Equal(got.Answer.Body, row.Answer.Body) {
			t.Errorf("the answer of claim %s changed on the way", row.Claim.Key)
		}
	}
}

func TestNoClaimsAreNoStatement(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	ctx, tx := testContext(t), begin(t, s)
	found, err := store.ReadClaims(ctx, tx, nil)
	store.InsertClaims(tx, nil)
	store.ProposeClaims(tx, nil)
	store.DeleteClaims(tx, nil)
	_, flushed := tx.Flush(ctx)
	err = errors.Join(err, store.AnswerClaims(ctx, tx, nil), flushed)
	if err != nil || len(found) != 0 {
		t.Errorf("an empty batch of claims: %v, %v", found, err)
	}
}
