package verify_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/node/verify"
)

// within is how long transfers may be under way in these tests: longer than any of them takes.
const within = time.Minute

// Two systems with transfers in every state have no breach, alone or together, and each transfer is counted where it stands.
func TestHealthySystemsHaveNoBreach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill()
	for _, each := range []*party{w.alpha, w.beta} {
		report, err := verify.Run(t.Context(), each.database.Source, nil)
		w.alpha.must(err)
		if !report.OK() {
			t.Errorf("%s alone: %v", each.system, report.Breaches)
		}
	}
	joint, err := verify.Between(t.Context(), w.dsns(), within)
	w.alpha.must(err)
	if !joint.OK() || len(joint.Findings) != len(verify.BetweenRules()) {
		t.Errorf("together:\n%s", joint)
	}
	there, back := pairOf(t, joint, "alpha"), pairOf(t, joint, "beta")
	if there.Posted != 2 || there.InFlight != 1 || there.Pending != 3 || there.Aborting != 1 || there.Conflicts != 0 || len(there.Unsettled) != 5 {
		t.Errorf("from alpha: %+v", there)
	}
	if back.Posted != 2 || back.InFlight != 1 || back.Pending != 0 || back.Aborting != 0 || len(back.Unsettled) != 1 {
		t.Errorf("from beta: %+v", back)
	}
	flow, money := there.Flows[0], joint.Money[0]
	if len(there.Flows) != 1 || flow.Currency != "KRW" || !are(flow.Posted, 117) || !are(flow.Credited, 100) || !are(flow.InFlight, 17) {
		t.Errorf("flows: %+v", there.Flows)
	}
	if len(joint.Money) != 1 || !are(money.Customers, 1_999_964) || !are(money.InFlight, 36) || !are(money.Outside, 2_000_000) {
		t.Errorf("money: %v", joint.Money)
	}
}

func pairOf(t *testing.T, joint verify.Joint, payer string) verify.Pair {
	t.Helper()
	i := slices.IndexFunc(joint.Pairs, func(p verify.Pair) bool { return p.Payer == payer })
	if i < 0 {
		t.Fatalf("no pair of %s in %+v", payer, joint.Pairs)
	}
	return joint.Pairs[i]
}

func are(sum *big.Int, want int64) bool { return sum.Cmp(big.NewInt(want)) == 0 }

// Each contradiction between two systems is seen under the rule that it breaks.
func TestAContradictionIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill()
	restore := map[*party]func(){w.alpha: w.alpha.keep(), w.beta: w.beta.keep()}
	for _, c := range contradictions {
		joint, err := verify.Look(t.Context(), w.dsns(), within, func(snapshot int) {
			for system := range restore {
				if snapshot == c.before && (c.system == system.system || c.system == "both") {
					system.execute(w.named(c.statement))
				}
			}
		})
		w.alpha.must(err)
		once := map[string]bool{}
		for _, found := range joint.Breaches {
			if once[found.Invariant+found.Place] {
				t.Errorf("%s is named twice: %v", found.Place, joint.Breaches)
			}
			once[found.Invariant+found.Place] = true
		}
		if !slices.ContainsFunc(joint.Breaches, func(found verify.Breach) bool { return found.Invariant == c.breaks }) {
			t.Errorf("not seen as a breach of %q, in %s: %s\nseen: %v", c.breaks, c.system, c.statement, joint.Breaches)
		}
		for _, undo := range restore {
			undo()
		}
	}
	joint, err := verify.Between(t.Context(), w.dsns(), within)
	w.alpha.must(err)
	if !joint.OK() {
		t.Errorf("after all was restored:\n%s", joint)
	}
}

func TestEveryRuleHasAContradiction(t *testing.T) {
	t.Parallel()
	for _, name := range verify.BetweenRules() {
		if !slices.ContainsFunc(contradictions, func(c contradiction) bool { return c.breaks == name }) {
			t.Errorf("nothing breaks %s: nobody has seen it fail", name)
		}
	}
}

// What happens between two snapshots is no breach, whichever two they are and whichever step it is.
func TestWhatHappensBetweenSnapshotsIsNoBreach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for moment := range 3 { // before the first snapshot of alpha, that of beta, and the second of alpha
		advance := slices.Concat(w.underWay(w.alpha, w.beta), w.underWay(w.beta, w.alpha))
		joint, err := verify.Look(t.Context(), w.dsns(), within, func(snapshot int) {
			for _, step := range advance {
				if snapshot == moment {
					step()
				}
			}
		})
		w.alpha.must(err)
		if !joint.OK() {
			t.Errorf("before snapshot %d:\n%s", moment, joint)
		}
	}
}

// Systems that go on meanwhile have no breach between them.
func TestARunBesideTransfersHasNoBreach(t *testing.T) {
	t.Parallel()
	const duringMin = 100
	w := newWorld(t)
	var stop atomic.Bool
	var paid atomic.Int64
	var payers sync.WaitGroup
	for i := range 4 {
		from, to := w.alpha, w.beta
		if i%2 == 1 {
			from, to = to, from
		}
		payers.Go(func() {
			for !stop.Load() {
				w.pay(from, to, 3)
				w.giveUp(from, to, 2)
				paid.Add(2)
			}
		})
	}
	runs := 0
	for deadline := time.Now().Add(20 * time.Second); paid.Load() < duringMin && time.Now().Before(deadline); runs++ {
		joint, err := verify.Between(t.Context(), w.dsns(), within)
		if err != nil || !joint.OK() {
			t.Errorf("beside transfers: %v\n%s", err, joint)
			break
		}
	}
	stop.Store(true)
	payers.Wait()
	if t.Logf("%d runs beside %d transfers", runs, paid.Load()); paid.Load() < duringMin || runs < 2 {
		t.Error("too little went on for this to show anything")
	}
}

// A payee's system that was restored and has forgotten its promise is no breach: it has begun another epoch since.
func TestAPromiseThatWasForgottenInAnEarlierEpochIsInFlight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill()
	w.beta.execute(w.named("DELETE FROM remittances WHERE id = {flying}"), "UPDATE `system` SET epoch = epoch + 1")
	joint, err := verify.Between(t.Context(), w.dsns(), within)
	w.alpha.must(err)
	if pair := pairOf(t, joint, "alpha"); !joint.OK() || pair.InFlight != 1 {
		t.Errorf("got\n%s", joint)
	}
}

// Conflicts are counted, and no breach before the time that transfers are given.
func TestConflictsAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill()
	w.beta.execute(w.named("UPDATE remittances SET state = 'conflict' WHERE id = {flying}"))
	joint, err := verify.Between(t.Context(), w.dsns(), 0)
	w.alpha.must(err)
	if pair := pairOf(t, joint, "alpha"); !joint.OK() || pair.Conflicts != 1 || pair.InFlight != 0 || len(joint.Findings) != len(verify.BetweenRules())-1 {
		t.Errorf("got\n%s", joint)
	}
}

// Lists end at a bound; the numbers count all.
func TestListsOfTransfersAreBounded(t *testing.T) {
	t.Parallel()
	const pending, listed, named = 101, 100, 20
	w := newWorld(t)
	for range pending {
		w.hold(w.alpha, w.beta, 1)
	}
	joint, err := verify.Between(t.Context(), w.dsns(), time.Nanosecond)
	w.alpha.must(err)
	if pair := pairOf(t, joint, "alpha"); pair.Pending != pending || len(pair.Unsettled) != listed || len(joint.Breaches) != named {
		t.Errorf("%d pending, %d of them listed, %d breaches named", pair.Pending, len(pair.Unsettled), len(joint.Breaches))
	}
}

// One system alone is looked at too: what it exchanged with strangers is money from outside.
func TestStrangersAreNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill()
	joint, err := verify.Between(t.Context(), w.dsns()[:1], 0)
	w.alpha.must(err)
	if !joint.OK() || !slices.Equal(joint.Strangers, []string{"beta"}) || len(joint.Pairs) != 0 || !are(joint.Money[0].Strangers, 70-117) {
		t.Errorf("got\n%s", joint)
	}
	if _, err := verify.Between(t.Context(), []string{w.dsns()[0], w.dsns()[0]}, 0); err == nil || !strings.Contains(err.Error(), "alpha") {
		t.Errorf("one system twice: %v", err)
	}
}

// --all prints pairs and money, as lines and as one more object, and fails upon a breach between the systems.
func TestTheCommandComparesAllSystems(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill()
	dir := t.TempDir()
	credentials, err := json.Marshal(map[string]any{"systems": []map[string]string{
		{"id": "alpha", "mysql_source_dsn": w.dsns()[0]}, {"id": "beta", "mysql_source_dsn": w.dsns()[1]},
	}})
	w.alpha.must(err)
	w.alpha.must(os.WriteFile(filepath.Join(dir, "credentials.json"), credentials, 0o600))
	out, err := run(t, verify.Command{Dir: dir, All: true})
	for _, want := range []string{
		"alpha to beta: 2 posted, 1 in flight, 3 pending, 1 aborting, 0 conflicts", string(w.ids["flying"]) + " in_flight for ", ", 17 KRW\n",
		"beta to alpha: 2 posted, 1 in flight", "KRW: customers 1999964, suspense 0, in flight 36; from outside 2000000", "holds   money_is_constant",
		"between alpha, beta: 7 rules, 0 breaches\n",
	} {
		if err != nil || !strings.Contains(out, want) {
			t.Fatalf("%v, without %q:\n%s", err, want, out)
		}
	}
	out, err = run(t, verify.Command{DSN: w.dsns(), All: true, JSON: true, SettledWithin: time.Nanosecond})
	var joint struct {
		OK *bool `json:"ok"`
		verify.Joint
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	w.alpha.must(json.Unmarshal([]byte(lines[len(lines)-1]), &joint))
	if !errors.Is(err, verify.ErrBreach) || len(lines) != 3 || joint.OK == nil || *joint.OK || len(joint.Breaches) != 6 {
		t.Errorf("%v:\n%s", err, out)
	}
}

// Flags that would have no effect are refused.
func TestTheCommandRefusesFlagsWithoutEffect(t *testing.T) {
	t.Parallel()
	for command, allowed := range map[*verify.Command]bool{
		{}: true, {SettledWithin: 1}: false, {All: true, SettledWithin: 1}: true, {All: true, SettledWithin: -1}: false,
	} {
		if err := command.Validate(); (err == nil) != allowed {
			t.Errorf("%+v: %v", command, err)
		}
	}
}
