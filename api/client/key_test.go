package client_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"lockstep/api/client"
)

// The answers that speak of their own request alone.
func early() map[string]step {
	return map[string]step{
		"401 unauthenticated":        says(401, "unauthenticated", client.NotApplied, client.SameKey),
		"429 rate_limited":           says(429, "rate_limited", client.NotApplied, client.Later, "Retry-After", "1"),
		"503 overloaded":             says(503, "overloaded", client.NotApplied, client.Later, "Retry-After", "1"),
		"503 source_unavailable":     says(503, "source_unavailable", client.NotApplied, client.Later, "Retry-After", "2"),
		"409 request_in_progress":    says(409, "request_in_progress", client.Unknown, client.SameKey, "Retry-After", "1"),
		"500 internal":               says(500, "internal", client.NotApplied, client.Later),
		"502 gateway_unknown":        says(502, "gateway_unknown", client.Unknown, client.SameKey),
		"504 outcome_unknown":        says(504, "outcome_unknown", client.Unknown, client.SameKey),
		"502 of another's":           page(502),
		"503 of another's":           page(503),
		"429 of another's":           page(429),
		"an answer cut off":          cutOff,
		"a connection that is lost":  loses(nothing),
		"200 of half a header (500)": page(500),
	}
}

// cutOff promises more than it sends.
func cutOff(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "1000")
	w.WriteHeader(http.StatusCreated)
	write(w, posted[:20])
}

// The first answer is lost after the money moved; the repeats meet every answer that says nothing about it. The key
// stays, and the first answer comes in the end.
func TestALostAnswerIsAskedForUnderItsKey(t *testing.T) {
	t.Parallel()
	effects := 0
	steps := []step{loses(func() { effects++ })}
	for _, answer := range early() {
		steps = append(steps, answer)
	}
	steps = append(steps, gives(201, posted, "Idempotency-Replayed", "true"))
	s := play(t, steps...)

	transfer, err := s.client().Transfer(t.Context(), payment)
	wantPosted(t, transfer, err)
	if keys := s.keys(); len(keys) != 1 || len(keys[0]) < 16 || effects != 1 {
		t.Errorf("keys %s, %d effects", quoted(keys), effects)
	}
	s.played()
	if last := s.attempts[len(s.attempts)-1]; !last.Replayed || last.Status != 201 || len(s.attempts) != len(steps) {
		t.Errorf("%d attempts, the last %+v", len(s.attempts), last)
	}
	if s.tokens != 2 {
		t.Errorf("%d tokens were fetched; 401 asks for a second one", s.tokens)
	}
}

// Each of those answers alone: after a lost answer, and first of all, it changes no key.
func TestAnEarlyAnswerChangesNoKey(t *testing.T) {
	t.Parallel()
	for name, answer := range early() {
		for _, before := range [][]step{nil, {loses(nothing)}} {
			s := play(t, append(before, answer, gives(201, posted))...)
			transfer, err := s.client().Transfer(t.Context(), payment)
			wantPosted(t, transfer, err)
			if keys := s.keys(); len(keys) != 1 {
				t.Errorf("%s after %d: keys %s", name, len(before), quoted(keys))
			}
			s.played()
		}
	}
}

// When the context ends in doubt, the error carries the key, and a later call goes on with it.
func TestDoubtAtTheEndCarriesTheKey(t *testing.T) {
	t.Parallel()
	for name, answer := range early() {
		ctx, cancel := context.WithCancel(t.Context())
		s := play(t, loses(nothing), func(w http.ResponseWriter) { answer(w); cancel() }, gives(201, posted))
		pauses := 0
		_, err := s.client(func(c *client.Config) {
			c.Wait = func(ctx context.Context, d time.Duration) error {
				if pauses++; pauses == 1 {
					return nil
				}
				return untilEnd(ctx, d)
			}
		}).Transfer(ctx, payment)
		key := wantUnknown(t, err)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		transfer, err := s.client().Transfer(t.Context(), payment, client.WithKey(key))
		wantPosted(t, transfer, err)
		if keys := s.keys(); len(keys) != 1 {
			t.Errorf("%s: keys %s", name, quoted(keys))
		}
	}
}

// A final refusal that was not decided under the claim leaves an earlier attempt in doubt; without one it is plain.
func TestARefusalBeforeTheClaimSaysNothingOfEarlierAttempts(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]struct {
		status int
		code   string
	}{
		"400": {400, "invalid_request"}, "403": {403, "forbidden"}, "405": {405, "method_not_allowed"}, "413": {413, "payload_too_large"},
		"415": {415, "unsupported_media_type"}, "404 of the path": {404, "not_found"},
	} {
		refusal := says(answer.status, answer.code, client.NotApplied, client.Never)
		_, err := play(t, refusal).client().Transfer(t.Context(), payment)
		wantProblem(t, err, answer.code)

		_, err = play(t, refusal).client().Transfer(t.Context(), payment, client.WithNewKey("k-0"))
		wantProblem(t, err, answer.code)
		for _, doubt := range []step{
			loses(nothing), page(502), says(504, "outcome_unknown", client.Unknown, client.SameKey),
			says(409, "request_in_progress", client.Unknown, client.SameKey), cutOff,
		} {
			s := play(t, doubt, refusal)
			_, err = s.client().Transfer(t.Context(), payment)
			key := wantUnknown(t, err)
			var problem *client.Problem
			if !errors.As(err, &problem) || problem.Code != answer.code || key != s.keys()[0] {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err = play(t, refusal).client().Transfer(t.Context(), payment, client.WithKey("k-1"))
		if wantUnknown(t, err) != "k-1" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Refusals decided under the claim answer every attempt; the caller decides what comes next.
func TestADecidedRefusalEndsTheDoubt(t *testing.T) {
	t.Parallel()
	for _, answer := range []struct {
		status int
		code   string
		retry  client.Retry
	}{
		{404, "account_not_found", client.Never},
		{409, "invalid_state", client.Never},
		{422, "insufficient_funds", client.NewKey},
		{422, "idempotency_key_reused", client.NewKey},
	} {
		s := play(t, loses(nothing), says(answer.status, answer.code, client.NotApplied, answer.retry))
		_, err := s.client().Transfer(t.Context(), payment)
		wantProblem(t, err, answer.code)
		s.played()
		if keys := s.keys(); len(keys) != 1 {
			t.Errorf("%s: keys %s", answer.code, quoted(keys))
		}
	}
}

// The stored 503 ends its key without an effect, so a new key may follow, but only one that we chose ourselves.
func TestTheStoredServerErrorAllowsANewKey(t *testing.T) {
	t.Parallel()
	stored := says(503, "peer_unavailable", client.NotApplied, client.NewKey, "Retry-After", "1")
	s := play(t, loses(nothing), says(503, "overloaded", client.NotApplied, client.Later), stored, loses(nothing), gives(201, posted))
	transfer, err := s.client().Transfer(t.Context(), payment)
	wantPosted(t, transfer, err)
	got := s.requests()
	if got[0].key != got[1].key || got[1].key != got[2].key || got[2].key == got[3].key || got[3].key != got[4].key {
		t.Errorf("keys in order: %+v", got)
	}

	s = play(t, stored)
	_, err = s.client().Transfer(t.Context(), payment, client.WithNewKey("mine"))
	wantProblem(t, err, "peer_unavailable")
	if keys := quoted(s.keys()); keys != "mine" {
		t.Errorf("keys %s", keys)
	}
}

// net/http repeats a POST that has an Idempotency-Key by itself when a kept connection breaks. Then we would take the
// answer to the second for the answer to the first: here 403, which would mean that nothing was applied.
func TestTheTransportRepeatsNothingByItself(t *testing.T) {
	t.Parallel()
	effects := 0
	s := play(t, gives(201, posted), loses(func() { effects++ }), says(403, "forbidden", client.NotApplied, client.Never))
	c := s.client()
	transfer, err := c.Transfer(t.Context(), payment)
	wantPosted(t, transfer, err)
	_, err = c.Void(t.Context(), "h")
	_ = wantUnknown(t, err)
	if requests := len(s.requests()); requests != 3 || len(s.attempts) != 3 || effects != 1 {
		t.Errorf("%d requests came of %d attempts", requests, len(s.attempts))
	}
}

// A server that cannot be reached has applied nothing.
func TestARequestThatWasNeverSentIsNotInDoubt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	pauses := 0
	s := play(t, gives(201, posted))
	c := s.client(func(c *client.Config) {
		c.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // a kept one would seem to send
		c.Wait = func(context.Context, time.Duration) error {
			if pauses++; pauses == 3 {
				cancel()
			}
			return nil
		}
	})
	_, err := c.Transfer(ctx, payment) // also fetches the token
	must(t, err)
	s.server.Close()
	_, err = c.Transfer(ctx, payment)
	var unknown *client.UnknownError
	if err == nil || errors.As(err, &unknown) || !errors.Is(err, context.Canceled) || len(s.attempts) < 3 {
		t.Errorf("got %v after %d attempts", err, len(s.attempts))
	}
	_, err = c.Transfer(ctx, payment, client.WithKey("from-before"))
	if key := wantUnknown(t, err); key != "from-before" {
		t.Errorf("the error carries the key %q", key)
	}
}

// An attempt that hangs is given up and repeated under its key.
func TestAnAttemptThatHangsIsRepeated(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	steps := []step{func(http.ResponseWriter) { <-release }}
	for range 1000 { // on a busy machine good attempts may hang as well
		steps = append(steps, gives(201, posted))
	}
	s := play(t, steps...)
	transfer, err := s.client(func(c *client.Config) { c.AttemptTimeout = 100 * time.Millisecond }).Transfer(t.Context(), payment)
	wantPosted(t, transfer, err)
	if keys := s.keys(); len(keys) != 1 || len(s.requests()) < 2 {
		t.Errorf("keys %s", quoted(keys))
	}
}

func TestKeysThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	s := play(t)
	for _, key := range []string{"", "a b", "ключ", `a"b`, "line\n", string(make([]byte, 256))} {
		if _, err := s.client().Transfer(t.Context(), payment, client.WithKey(key)); err == nil {
			t.Errorf("%q was taken", key)
		}
	}
	if _, err := s.client().Account(t.Context(), "a", client.WithKey("k")); err == nil {
		t.Error("a read took a key")
	}
}

// Changes without a key set values: they are repeated, and a refusal after a lost answer is a doubt.
func TestChangesWithoutAKey(t *testing.T) {
	t.Parallel()
	closed := "closed"
	change := client.AccountChange{Status: &closed}
	s := play(t, loses(nothing), gives(200, `{"number":"a","status":"closed"}`))
	account, err := s.client().ChangeAccount(t.Context(), "a", change)
	must(t, err)
	if account.Status != "closed" || s.requests()[1].key != "" || s.requests()[1].body != `{"status":"closed"}` {
		t.Errorf("got %+v of %+v", account, s.requests())
	}

	refusal := says(409, "invalid_state", client.NotApplied, client.Never)
	_, err = play(t, refusal).client().ChangeAccount(t.Context(), "a", change)
	wantProblem(t, err, "invalid_state")
	_, err = play(t, loses(nothing), refusal).client().ChangeAccount(t.Context(), "a", change)
	if key := wantUnknown(t, err); key != "" {
		t.Errorf("got %v", err)
	}

	missing := says(404, "not_found", client.NotApplied, client.Never)
	must(t, play(t, loses(nothing), missing).client().DeleteClient(t.Context(), "till"))
	wantProblem(t, play(t, missing).client().DeleteClient(t.Context(), "till"), "not_found")
}
