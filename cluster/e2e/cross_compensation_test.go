package e2e_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/node/verify"
)

const (
	publicationsMax = 4 // of a message that cannot be published, in unpublished
	deliveriesMax   = 3 // of a message whose handler fails, in unreleased
)

// unpublished is how nodes run whose transfers are promised and then given up, while nothing can be published. The payee's
// side asks nobody for as long as the test takes.
func unpublished() map[string]any {
	return with(between("1s", "2s", "10m"), map[string]any{
		"faults": map[string]any{"after_prepare": 1.0, "publish_before": 1.0},
		"nats":   map[string]any{"max_deliver": publicationsMax, "backoff_max": "1m"},
	})
}

// unreleased is how nodes run that hear that a transfer was given up, and fail to release what was promised.
func unreleased() map[string]any {
	return with(between("1s", "2s", "10m"), map[string]any{
		"faults": map[string]any{"before_aborted": 1.0}, "nats": map[string]any{"max_deliver": deliveriesMax},
	})
}

// unpublishedButAsked is how nodes run that can publish nothing, and ask one another.
func unpublishedButAsked() map[string]any {
	return with(between("1s", "20s", "5s"), map[string]any{
		"faults": map[string]any{"publish_before": 1.0}, "nats": map[string]any{"max_deliver": 2, "backoff_max": "1s"},
	})
}

// listedLetter is a message that waits for an operator, as operators see it.
type listedLetter struct {
	ID, Source, Peer, Reason string
	Types                    []string
	TransferIDs              []string `json:"transfer_ids"`
	Attempts                 int
	At                       time.Time
}

// letters lists what waits for an operator.
func (c caller) letters() []listedLetter {
	c.Helper()
	var body struct {
		Letters []listedLetter `json:"dead_letters"`
	}
	if err := json.Unmarshal(c.fresh("/v1/admin/dead-letters?limit=100").body, &body); err != nil {
		c.Fatal(err)
	}
	return body.Letters
}

// replayLetters has all be tried again that waits for an operator.
func (c caller) replayLetters() {
	c.Helper()
	for _, letter := range c.letters() {
		c.post("/v1/admin/dead-letters/"+letter.ID+"/replay", nil).expect(c, http.StatusOK, "")
	}
}

// lettersAbout finds the letters of one source that tell such things, and of which transfers.
func (c caller) lettersAbout(source, what string) (found []listedLetter, transfers map[string]bool) {
	c.Helper()
	transfers = map[string]bool{}
	for _, letter := range c.letters() {
		if letter.Source != source || !slices.Contains(letter.Types, what) {
			continue
		}
		found = append(found, letter)
		for _, id := range letter.TransferIDs {
			transfers[id] = true
		}
	}
	return found, transfers
}

// compensationFails gives transfers up after they were promised. First nobody can publish that, and then nobody can release
// the promise: each is tried again, later and later, is kept with its reason, and is done when it is replayed after its fault
// was lifted. The promise stays counted all the while.
func (x *crossing) compensationFails(t *testing.T) {
	const transfers, amount = 3, 10
	alpha, beta := x.on(t, 0), x.on(t, 1)
	payer, payee := alpha.account("KRW", "1000"), beta.account("KRW", "0")
	p := watchPauses(t, x.sides[0])
	var all sync.WaitGroup
	for range transfers {
		all.Go(func() { alpha.givenUp(payment(payer, payee, fmt.Sprint(amount), "KRW")) })
	}
	all.Wait()
	if got := alpha.balance(payer); got != "1000 posted, 0 held, 1000 available" {
		t.Errorf("after %d payments were given up the payer has %s", transfers, got)
	}
	promised := func() string { return beta.fresh("/v1/accounts/"+payee).field("balance", "pending_credit") }
	counted := func() {
		t.Helper()
		if got, want := promised(), fmt.Sprint(transfers*amount); got != want {
			t.Fatalf("before the promises are released %s is promised, want %s", got, want)
		}
		if pair := x.between(t); pair.Aborting != transfers || len(pair.Unsettled) != transfers {
			t.Fatalf("before the promises are released there are %v", pair)
		}
	}
	x.parkedUnpublished(t, transfers, p, counted)
	x.configure(t, unreleased())
	counted()
	x.parkedUnreleased(t, transfers, counted)
	x.configure(t, calm())
	counted()
	beta.replayLetters()
	eventually(t, "the promises are released", func() bool { return promised() == "0" })
	x.nothingWaits(t)
}

// parkedUnpublished waits until alpha's decisions are parked.
func (x *crossing) parkedUnpublished(t *testing.T, transfers int, p *pauses, counted func()) {
	alpha := x.on(t, 0)
	var letters []listedLetter
	inTime(t, 2*patience, "what cannot be published is parked", func() bool {
		counted()
		var about map[string]bool
		letters, about = alpha.lettersAbout("outbox", "transfer.aborted")
		return len(about) == transfers
	})
	for _, letter := range letters {
		if letter.Peer != "beta" || letter.Attempts != publicationsMax || !strings.Contains(letter.Reason, "publish_before") {
			t.Errorf("what cannot be published is listed as %+v", letter)
		}
		p.expect(t, letter)
	}
	if parked := x.counted(t, "lockstep_outbox_parked", x.admins[0])[""]; parked < int64(len(letters)) {
		t.Errorf("%d messages are listed as parked, and %d counted", len(letters), parked)
	}
	t.Logf("%d messages about %d transfers were parked", len(letters), transfers)
}

// parkedUnreleased replays what alpha could not publish, and waits until beta has given up to apply it.
func (x *crossing) parkedUnreleased(t *testing.T, transfers int, counted func()) {
	alpha, beta := x.on(t, 0), x.on(t, 1)
	if _, about := alpha.lettersAbout("outbox", "transfer.aborted"); len(about) != transfers {
		t.Errorf("before it is replayed %d of %d transfers wait", len(about), transfers)
	}
	began := time.Now()
	for side := range x.sides {
		x.on(t, side).replayLetters()
	}
	var letters []listedLetter
	eventually(t, "the releases are dead letters", func() bool {
		counted()
		var about map[string]bool
		letters, about = beta.lettersAbout("peer", "transfer.aborted")
		return len(about) == transfers
	})
	const pauses = 2400 * time.Millisecond // of 1 s and 2 s, a fifth less at the most
	for _, letter := range letters {
		if letter.Peer != "alpha" || letter.Attempts != deliveriesMax || !strings.Contains(letter.Reason, "before_aborted") {
			t.Errorf("what cannot be applied is listed as %+v", letter)
		}
		if took := letter.At.Sub(began); took < pauses {
			t.Errorf("%d deliveries took %v, want more than %v", deliveriesMax, took, pauses)
		}
	}
	failed := x.counted(t, "lockstep_remit_faults_total")["before_aborted"]
	t.Logf("%d letters about %d transfers, after %d failed releases", len(letters), transfers, failed)
	if failed < int64(transfers*deliveriesMax) {
		t.Errorf("the release of %d promises failed %d times, want %d times each", transfers, failed, deliveriesMax)
	}
	eventually(t, "what was replayed is published", func() bool { return x.waiting(t) == 0 })
}

// askedInstead makes a payment of which nothing can be published. Its money is in flight until the payee's side has asked;
// what is published in the end tells nothing new, and changes nothing.
func (x *crossing) askedInstead(t *testing.T) {
	alpha, beta := x.on(t, 0), x.on(t, 1)
	payer, payee := alpha.account("KRW", "1000"), beta.account("KRW", "0")
	id := alpha.post("/v1/transfers", payment(payer, payee, "10", "KRW")).expect(t, http.StatusCreated, "").field("id")
	if pair := x.between(t); pair.InFlight != 1 || len(pair.Flows) == 0 || pair.Flows[0].InFlight.Int64() != 10 {
		t.Errorf("of a payment that nobody has told the payee's side there is %v", pair)
	}
	inTime(t, 2*patience, "the payee's side has asked", func() bool { x.between(t); return beta.posted(payee) == "10" })
	parked := func(c caller, what string) bool {
		_, about := c.lettersAbout("outbox", what)
		return about[id]
	}
	eventually(t, "both sides have parked what they could not tell", func() bool {
		return parked(alpha, "transfer.committed") && parked(beta, "transfer.credited")
	})
	x.configure(t, calm())
	alpha.replayLetters()
	beta.replayLetters()
	x.nothingWaits(t)
	alpha.steps(id, "held", "posted", "credited")
	if got := beta.balance(payee); got != "10 posted, 0 held, 10 available" {
		t.Errorf("of a payment that was found out by asking, and told after that, the payee has %s", got)
	}
	if got := alpha.balance(payer); got != "990 posted, 0 held, 990 available" {
		t.Errorf("the payer has %s", got)
	}
}

// nothingWaits requires that all is told and nothing waits for an operator.
func (x *crossing) nothingWaits(t *testing.T) {
	t.Helper()
	eventually(t, "no message waits, and no letter is left", func() bool {
		return x.waiting(t) == 0 && len(x.on(t, 0).letters())+len(x.on(t, 1).letters()) == 0
	})
}

// waiting counts the messages of both sides that were not published, parked ones among them.
func (x *crossing) waiting(t *testing.T) (count int64) {
	t.Helper()
	for _, s := range x.sides {
		count += s.journal(t, "SELECT COUNT(*) FROM saga_outbox")
	}
	return count
}

// between requires that the two systems' books agree, as `lockstep verify --all` does, and tells what goes from alpha to beta.
func (x *crossing) between(t *testing.T) verify.Pair {
	t.Helper()
	joint, err := verify.Between(t.Context(), []string{x.sides[0].source, x.sides[1].source}, 0)
	if err != nil {
		t.Fatalf("verify --all: %v", err)
	}
	if !joint.OK() {
		t.Fatalf("verify --all: %v", joint)
	}
	for _, pair := range joint.Pairs {
		if pair.Payer == "alpha" && pair.Payee == "beta" {
			return pair
		}
	}
	t.Fatalf("verify --all has nothing about alpha and beta: %v", joint)
	return verify.Pair{}
}

// pauses watches when messages of a side's outbox are due, by message and number of failures.
type pauses struct {
	mu  sync.Mutex
	due map[string]map[int]time.Time
}

const lookPause = 50 * time.Millisecond // a message waits for much longer after each failure

// watchPauses looks until the test ends, beside whatever else the test does.
func watchPauses(t *testing.T, s *site) *pauses {
	t.Helper()
	db, err := sql.Open("mysql", s.source+"?parseTime=true")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	p := &pauses{due: map[string]map[int]time.Time{}}
	var looking sync.WaitGroup
	looking.Go(func() {
		for ctx.Err() == nil {
			if err := p.look(ctx, db); err != nil && ctx.Err() == nil {
				t.Errorf("look at the outbox: %v", err)
				return
			}
			time.Sleep(lookPause)
		}
	})
	t.Cleanup(func() { stop(); looking.Wait(); _ = db.Close() })
	return p
}

// look notes the earliest time that a message was due after each of its failures: whoever has it in hand puts it off more.
func (p *pauses) look(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SELECT id, attempt, next_at FROM saga_outbox WHERE attempt > 0")
	if err != nil {
		return err
	}
	defer rows.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for rows.Next() {
		var id string
		var failures int
		var due time.Time
		if err := rows.Scan(&id, &failures, &due); err != nil {
			return err
		}
		if p.due[id] == nil {
			p.due[id] = map[int]time.Time{}
		}
		if noted, there := p.due[id][failures]; !there || due.Before(noted) {
			p.due[id][failures] = due
		}
	}
	return rows.Err()
}

// expect requires that a message waited twice as long after each failure, from a second on; a fifth less at the most.
func (p *pauses) expect(t *testing.T, letter listedLetter) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for failures := 2; failures < publicationsMax; failures++ {
		before, after := p.due[letter.ID][failures-1], p.due[letter.ID][failures]
		least := time.Second << (failures - 1) * 4 / 5
		if before.IsZero() || after.IsZero() || after.Sub(before) < least {
			t.Errorf("after failure %d a message was due at %v, and after the next at %v; want a pause of %v", failures-1, before, after, least)
		}
	}
}

// givenUp asks for a payment until it is known that the peer gave no answer, which stays the answer.
func (c caller) givenUp(body object) {
	key := uuid.NewString()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		got := c.call(http.MethodPost, "/v1/transfers", body, "Idempotency-Key", key, "Prefer", "wait=5")
		if got.status == http.StatusServiceUnavailable && got.field("code") == "peer_unavailable" && got.field("retry") == "new-key" {
			c.repeats(got, "/v1/transfers", body, key)
			return
		}
		if got.status != http.StatusAccepted {
			c.Errorf("a payment that cannot be decided is answered with %v", got)
			return
		}
	}
	c.Error("a payment that nobody decides is not given up")
}
