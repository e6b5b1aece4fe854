package e2e_test

import (
	"net/http"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

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

// longEnv chooses the long form of loads and stops; `make test` has little time.
const longEnv = "LOCKSTEP_CROSS_LONG"

// formOf is what fits into the time of the form that was chosen.
func formOf[T any](short, long T) T {
	if os.Getenv(longEnv) != "" {
		return long
	}
	return short
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
// acted and a cap was met. Their clients ask until they know.
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
	full := func() bool { return loads[1].times("peer_cap_exceeded") > 0 }
	for end := time.Now().Add(time.Duration(times) * 15 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		acted, compensated = x.counted(t, "lockstep_remit_faults_total"), x.compensated(t)-before
		if compensated >= times && !slices.ContainsFunc(points(), func(p string) bool { return acted[p] < times }) && full() {
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
