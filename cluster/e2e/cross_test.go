package e2e_test

import (
	"context"
	"maps"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"lockstep/cluster/local"
)

// crossing is a cluster of two systems that pay one another: alpha, and beta.
type crossing struct {
	*local.Cluster
	options    local.Options
	sides      [2]*site
	admins     []string // of all nodes, alpha's first
	configured map[string]any
	books      *record // of all loads, in won
	numbers    [2][]string
}

// askAfter is when the payee's side asks about a promise that nobody has decided.
const askAfter = 4 * time.Second

// calm is how nodes run where nothing is made to fail. Another node goes on soon, and nothing is given up for a slow machine.
func calm() map[string]any { return between("2s", "20s", askAfter.String()) }

func between(lookAfter, expiresIn, askAfter string) map[string]any {
	return map[string]any{"drain": "0s", "peers": map[string]any{"look_after": lookAfter, "expires_in": expiresIn, "ask_after": askAfter}}
}

// with adds keys to a configuration.
func with(config, more map[string]any) map[string]any {
	maps.Copy(config, more)
	return config
}

// part is one of several that follow one another on the same two systems.
type part struct {
	name   string
	config map[string]any
	run    func(x *crossing, t *testing.T)
}

// Transfers between two systems, through the addresses that their clients and peers use.
func TestTransfersBetweenSystems(t *testing.T) {
	t.Parallel()
	play(t, []part{
		{"a transfer is posted on both sides, and its key has one answer", calm(), (*crossing).postedOnBothSides},
		{"a refusal releases the hold at once", calm(), (*crossing).refusalsReleaseTheHold},
		{"the cap holds against prepares at once at two nodes", calm(), (*crossing).capHolds},
		{"both directions at once, while a key is rotated", calm(), (*crossing).bothDirections},
		{"without a broker the payee's side asks", calm(), (*crossing).withoutBroker},
		{"processes are killed and stopped under load", calm(), (*crossing).killedUnderLoad},
		{"whatever step is abandoned, both sides end alike", abandoning(), (*crossing).abandonedAnywhere},
	})
}

// slowTransfers are those that wait: for retries that come later and later, for the other side to ask, for an account.
func slowTransfers(t *testing.T) {
	play(t, []part{
		{"a compensation that fails is retried and then waits for an operator", unpublished(), (*crossing).compensationFails},
		{"what is not published is found out by asking", unpublishedButAsked(), (*crossing).askedInstead},
		{"a repeat of a pending transfer is told so", calm(), (*crossing).pendingIsAccepted},
	})
}

// play lets parts follow one another, for the nodes are started anew only where a part needs them configured in another way.
// After each part both systems' books hold by themselves, are alike, and have what clients were told.
func play(t *testing.T, parts []part) {
	t.Helper()
	x := openCrossing(t, parts[0].config, 0)
	for _, part := range parts {
		t.Run(part.name, func(t *testing.T) {
			x.configure(t, part.config)
			began := time.Now()
			part.run(x, t)
			x.settled(t, alikeMaxWait)
			x.books.auditAcross(t, x)
			t.Logf("the part took %.1f s", time.Since(began).Seconds())
		})
	}
}

// openCrossing starts the two systems. What decides reads at the source: replicas are there for tests that promote them.
func openCrossing(t *testing.T, config map[string]any, replicas int, more ...func(*local.Options)) *crossing {
	t.Helper()
	first := own(t, func(o *local.Options) {
		o.Systems, o.Replicas, o.NodeConfig = local.SystemNames(2), replicas, config
		for _, change := range more {
			change(o)
		}
	})
	x := &crossing{Cluster: first.cluster, options: first.options, configured: config, books: newRecord("KRW")}
	systems := x.Credentials().Systems
	x.sides = [2]*site{first, siteOf(x.Cluster, x.options, systems[1])}
	t.Cleanup(x.sides[1].http.CloseIdleConnections)
	for _, system := range systems {
		x.admins = append(x.admins, system.AdminURLs...)
	}
	return x
}

// configure starts the nodes anew, unless they run so already.
func (x *crossing) configure(t *testing.T, config map[string]any) {
	t.Helper()
	if reflect.DeepEqual(config, x.configured) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), startMax)
	defer cancel()
	if err := x.Reconfigure(ctx, config); err != nil {
		t.Fatalf("configure the nodes: %v", err)
	}
	x.configured = config
	x.balanced(t, 0, 1)
}

// balanced waits until the balancers of the sides send requests to nodes again.
func (x *crossing) balanced(t *testing.T, sides ...int) {
	t.Helper()
	for _, side := range sides {
		s := x.sides[side]
		balancer := caller{TB: t, site: s, base: s.balancer, quick: true}
		eventually(t, "the balancer finds its nodes", func() bool { return balancer.get("/readyz").status == 200 })
	}
}

// on makes a caller of a side's operator, who owns the accounts that it opens.
func (x *crossing) on(tb testing.TB, side int) caller {
	tb.Helper()
	return x.sides[side].as(tb, x.sides[side].operator)
}

// command runs a command of the program for a system, as an operator would, and returns what it says.
func (x *crossing) command(t *testing.T, system, name string, args ...string) string {
	t.Helper()
	out, err := x.tries(t, system, name, args...)
	if err != nil {
		t.Fatalf("lockstep %s for %s: %v\n%s", name, system, err, out)
	}
	return out
}

// tries runs a command that may fail.
func (x *crossing) tries(t *testing.T, system, name string, args ...string) (string, error) {
	t.Helper()
	config := filepath.Join(x.options.Dir, system, "setup.yaml")
	return lockstep(t, append(append(strings.Fields(name), "--config", config), args...)...)
}

// lockstep runs the program.
func lockstep(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(environment(), hasty)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// introduceAlpha has beta pin alpha's address and its keys of now.
func (x *crossing) introduceAlpha(t *testing.T, more ...string) {
	t.Helper()
	x.command(t, "beta", "peers add", append([]string{"--id", "alpha", "--url", x.sides[0].balancer, "--jwks-file", x.alphaKeys()}, more...)...)
}

// alphaKeys is where alpha's key set is for others to pin.
func (x *crossing) alphaKeys() string { return filepath.Join(x.options.Dir, "alpha", "peer-keys.json") }

// population opens the accounts of the loads, once: the first of each side is the one that everybody wants.
func (x *crossing) population(t *testing.T) [2][]string {
	t.Helper()
	const each = 51
	for side := range x.numbers {
		c := x.on(t, side).inHaste()
		for len(x.numbers[side]) < each {
			x.numbers[side] = append(x.numbers[side], x.books.open(c, "1000000"))
		}
	}
	return x.numbers
}

// counted sums a counter over all nodes, or over one side's: by the value of its one label, and in all under "".
func (x *crossing) counted(tb testing.TB, name string, nodes ...string) map[string]int64 {
	tb.Helper()
	if len(nodes) == 0 {
		nodes = x.admins
	}
	sums := map[string]int64{}
	for _, admin := range nodes {
		c := caller{TB: tb, site: x.sides[0], base: admin, quick: true}
		for label, value := range c.series(name) {
			if sums[""] += value; label != "" {
				sums[label] += value
			}
		}
	}
	return sums
}
