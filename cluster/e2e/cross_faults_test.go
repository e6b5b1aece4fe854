package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/events"
	"lockstep/node/ledger"
)

// points are all the places between two steps of a transfer where a node may abandon it.
func points() []string {
	return []string{
		"after_hold", "after_prepare", "before_pivot", "after_pivot", "before_abort", "after_abort",
		"outbox_before", "outbox_after", "publish_before", "publish_after",
		"before_committed", "after_committed", "before_aborted", "after_aborted", "before_credited", "after_credited",
		"before_ack", "ack_before", "ack_after",
	}
}

// abandoning is how nodes run that abandon one step in five.
func abandoning() map[string]any {
	faults := map[string]any{}
	for _, point := range points() {
		faults[point] = 0.2
	}
	return with(between("1s", "4s", askAfter.String()), map[string]any{"faults": faults})
}

// timesEnv is how often each fault point has to act; `make test` has little time.
const timesEnv = "LOCKSTEP_CROSS_FAULTS"

func timesWanted(t *testing.T) (times int64) {
	t.Helper()
	times = 3
	if text := os.Getenv(timesEnv); text != "" {
		var err error
		if times, err = strconv.ParseInt(text, 10, 64); err != nil || times < 1 {
			t.Fatalf("%s: %q is no number above 0", timesEnv, text)
		}
	}
	return times
}

// abandonedAnywhere abandons transfers at each step, some that succeed and some that are refused, until each point has
// acted. Their clients ask until they know.
func (x *crossing) abandonedAnywhere(t *testing.T) {
	const clients = 32
	times := timesWanted(t)
	x.introduceAlpha(t, "--cap", "EUR=10.00")
	euros := newRecord("EUR")
	rich, poor := euros.open(x.on(t, 0).inHaste(), "10000.00"), euros.open(x.on(t, 1).inHaste(), "0")
	loads := []*crossLoad{
		x.load(t, x.books, "1", clients, x.oftenRefused(t)),
		x.load(t, euros, "1.00", 2, func(int, int) (from, to string) { return rich, poor }),
	}
	began := time.Now()
	var stops []func()
	for _, l := range loads {
		stops = append(stops, l.start(t))
	}
	var acted map[string]int64
	before, compensated := x.compensated(t), int64(0)
	for end := time.Now().Add(time.Duration(times) * 15 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		acted, compensated = x.counted(t, "lockstep_remit_faults_total"), x.compensated(t)-before
		if compensated >= times && !slices.ContainsFunc(points(), func(p string) bool { return acted[p] < times }) {
			break
		}
	}
	loaded := time.Since(began)
	for _, stop := range stops {
		stop()
	}
	t.Logf("%.1f s of load, %.1f s until all clients knew; %d promises were released; faults: %v",
		loaded.Seconds(), time.Since(began).Seconds(), compensated, acted)
	if compensated < times {
		t.Errorf("%d promises were released, want at least %d", compensated, times)
	}
	for _, point := range points() {
		if acted[point] < times {
			t.Errorf("the fault point %s acted %d times, want at least %d", point, acted[point], times)
		}
	}
	loads[0].expect(t, 1, "Accepted", "payee_not_found", "account_frozen", "peer_unavailable", "request_in_progress")
	const room = 10
	if made := loads[1].total(); made < 1 || made > room || loads[1].heard["peer_cap_exceeded"] == 0 {
		t.Errorf("with room for %d payments %d were made; heard %v", room, made, loads[1].heard)
	}
	for _, refused := range []string{"payee_not_found", "account_frozen"} {
		if loads[0].heard[refused] == 0 {
			t.Errorf("nobody was refused with %s", refused)
		}
	}
	x.alike(t, alikeMaxWait)
	euros.auditAcross(t, x)
}

// compensated counts the promises of both systems that were released.
func (x *crossing) compensated(tb testing.TB) (count int64) {
	tb.Helper()
	for side, s := range x.sides {
		count += s.journal(tb, "SELECT COUNT(*) FROM remittances r JOIN transfers t ON t.id = r.id "+
			"WHERE r.payee_system = ? AND r.state = 'voided'", x.systemOf(side))
	}
	return count
}

// oftenRefused pays across, and at times to an account that is frozen or is not there.
func (x *crossing) oftenRefused(t *testing.T) pairing {
	t.Helper()
	pick, frozen, missing := across(x.population(t)), [2]string{}, [2]string{}
	for side := range frozen {
		c := x.on(t, side)
		frozen[side] = c.account("KRW", "0")
		c.call(http.MethodPatch, "/v1/accounts/"+frozen[side], object{"status": "frozen"}).expect(t, http.StatusOK, "")
		missing[side] = string(ledger.NewNumber(x.systemOf(side), 999_999_999))
	}
	return func(client, round int) (from, to string) {
		from, to = pick(client, round)
		there := slices.Index(x.options.Systems, ledger.Number(to).System())
		switch round % 5 { // nodes take turns by twos
		case 1:
			return from, frozen[there]
		case 3:
			return from, missing[there]
		}
		return from, to
	}
}

const deliveriesMax = 3 // of a message whose handler fails, in compensating

// compensating is how nodes run whose transfers are promised and then given up, while the promise cannot be released. The
// payee's side asks nobody for a long time.
func compensating() map[string]any {
	return with(between("1s", "2s", "60s"), map[string]any{
		"faults": map[string]any{"after_prepare": 1.0, "before_aborted": 1.0},
		"nats":   map[string]any{"max_deliver": deliveriesMax},
	})
}

// compensationFails gives transfers up after they were promised, where the release of the promise fails each time. It is
// tried again, and then kept as a dead letter; the promise stays counted until somebody has replayed that.
func (x *crossing) compensationFails(t *testing.T) {
	const transfers, amount = 3, 10
	alpha, beta := x.on(t, 0), x.on(t, 1)
	payer, payee := alpha.account("KRW", "1000"), beta.account("KRW", "0")
	var all sync.WaitGroup
	for range transfers {
		all.Go(func() { alpha.givenUp(payment(payer, payee, fmt.Sprint(amount), "KRW")) })
	}
	all.Wait()
	if got := alpha.balance(payer); got != "1000 posted, 0 held, 1000 available" {
		t.Errorf("after %d payments were given up the payer has %s", transfers, got)
	}
	promised := func() string { return beta.fresh("/v1/accounts/"+payee).field("balance", "pending_credit") }
	counted := fmt.Sprint(transfers * amount)
	bus := x.busOf(t, 1)
	letters, ids := map[string]bool{}, map[string]bool{}
	eventually(t, "the releases are dead letters", func() bool {
		if got := promised(); got != counted {
			t.Fatalf("before the promises are released %s is promised, want %s", got, counted)
		}
		for _, letter := range x.lettersAbout(t, bus, "transfer.aborted") {
			letters[letter.ID] = true
			if letter.Delivered != deliveriesMax || !strings.Contains(letter.Reason, "before_aborted") {
				t.Errorf("a dead letter was delivered %d times, and says %q", letter.Delivered, letter.Reason)
			}
			for _, id := range idsIn(t, letter.Data) {
				ids[id] = true
			}
		}
		return len(ids) == transfers
	})
	failed := x.counted(t, "lockstep_remit_faults_total")["before_aborted"]
	t.Logf("%d letters about %d transfers, after %d failed releases", len(letters), len(ids), failed)
	if failed < transfers*deliveriesMax {
		t.Errorf("the release of %d promises failed %d times, want %d times each", transfers, failed, deliveriesMax)
	}
	x.configure(t, calm())
	if got := promised(); got != counted {
		t.Errorf("before a letter is replayed %s is promised, want %s", got, counted)
	}
	for id := range letters {
		if err := bus.Replay(t.Context(), id); err != nil {
			t.Errorf("replay: %v", err)
		}
	}
	eventually(t, "the promises are released", func() bool { return promised() == "0" })
	eventually(t, "no letter is left", func() bool { return len(x.lettersAbout(t, bus, "transfer.aborted")) == 0 })
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

// busOf opens a bus with a system's own credentials, as a node of it has.
func (x *crossing) busOf(t *testing.T, side int) *events.Bus {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(x.options.Dir, "secrets.json"))
	var secrets struct {
		Systems map[string]struct{ NATS string }
	}
	if err == nil {
		err = json.Unmarshal(text, &secrets)
	}
	if err != nil {
		t.Fatalf("read the cluster's secrets: %v", err)
	}
	config := events.Default()
	config.URL, config.System, config.User = x.Credentials().NATSURL, x.systemOf(side), x.systemOf(side)
	config.Password = secrets.Systems[x.systemOf(side)].NATS
	bus, err := events.Open(context.WithoutCancel(t.Context()), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	eventually(t, "the broker answers", bus.Connected)
	return bus
}

func (x *crossing) lettersAbout(t *testing.T, bus *events.Bus, what string) (found []events.DeadLetter) {
	t.Helper()
	letters, err := bus.DeadLetters(t.Context(), 100)
	if err != nil {
		t.Fatalf("read dead letters: %v", err)
	}
	for _, letter := range letters {
		if strings.HasSuffix(letter.Subject, what) {
			found = append(found, letter)
		}
	}
	return found
}

// idsIn reads of which transfers a message speaks.
func idsIn(t *testing.T, data []byte) (ids []string) {
	t.Helper()
	list, problems := events.Unpack(data)
	for i, event := range list {
		if problems[i] != nil {
			t.Errorf("an event of a dead letter cannot be read: %v in %s", problems[i], bytes.TrimSpace(data))
		}
		ids = append(ids, event.Subject)
	}
	return ids
}
