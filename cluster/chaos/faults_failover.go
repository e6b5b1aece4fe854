package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"lockstep/cluster/local"
)

// failoverFaults lose a source until one of its replicas has taken its place, and bring it back then.
func failoverFaults() []fault {
	return []fault{
		{"a source killed, a replica promoted, " + sourceReturns, spareDatabases, lost(kill), returns(start)},
		{"a source stopped, a replica promoted, " + sourceReturns, spareDatabases, lost(stop), returns(thaw)},
	}
}

const (
	sourceReturns = "the old source back"

	wholeWait   = 60 * time.Second // until a system has a source and two replicas again, after an earlier fault
	spareSeen   = time.Second      // in which the supervisor has noticed that a database was started
	promoteWait = 30 * time.Second // the supervisor waits for 4 s, and may have to try again
)

// spareDatabases are those of a system that can lose its source now; none when each of them has a replica that is still catching
// up. One that was rebuilt reads all that was ever written, under the load, for minutes.
func spareDatabases(t *target, random *rand.Rand) []string {
	systems := slices.DeleteFunc(slices.Clone(t.systems), func(s local.SystemCredentials) bool { return !t.cluster.Spare(s.ID) })
	if len(systems) == 0 {
		return nil
	}
	return t.databasesOf(systems[random.IntN(len(systems))].ID)
}

// databasesOf are all databases of a system, the source first: nothing else may be wrong with any of them, or nobody may be promoted.
func (t *target) databasesOf(system string) (names []string) {
	source := t.source(system)
	names = append(names, source)
	for _, process := range t.cluster.Processes() {
		if strings.HasPrefix(process.Name, system+"-mysql-") && process.Name != source {
			names = append(names, process.Name)
		}
	}
	return names
}

// lost takes the source away and waits until there is another.
func lost(take func(context.Context, *target, string) error) func(context.Context, *target, []string) error {
	return func(ctx context.Context, t *target, on []string) error {
		if err := t.whole(ctx, on); err != nil {
			return err
		}
		if err := take(ctx, t, on[0]); err != nil {
			return err
		}
		return t.await(ctx, promoteWait, "a replica is promoted", on, func(all []local.Status) bool { return all[0].Kind != "mysql-source" })
	}
}

// whole waits until no database is down or apart, and the supervisor would dare to promote a replica: one that was just started,
// or pointed at another source, has to catch up before, and after an earlier fault that takes as long as the machine is busy.
func (t *target) whole(ctx context.Context, on []string) error {
	system, _, _ := strings.Cut(on[0], "-")
	return t.await(ctx, wholeWait, "a replica of the whole system may be promoted", on, func(all []local.Status) bool {
		return t.cluster.Spare(system) && !slices.ContainsFunc(all, func(s local.Status) bool {
			return s.State != local.Running || s.Kind == "mysql-apart" || time.Since(s.Since) < spareSeen
		})
	})
}

// returns brings the old source back and waits until it is a replica, rebuilt if it has to be; or the source as before, if nobody
// has taken its place.
func returns(bring func(context.Context, *target, string) error) func(context.Context, *target, []string) error {
	return func(ctx context.Context, t *target, on []string) error {
		if err := bring(ctx, t, on[0]); err != nil {
			return err
		}
		return t.await(ctx, healMax, "the old source is back", on, func(all []local.Status) bool {
			return all[0].Kind != "mysql-apart" && all[0].State == local.Running
		})
	}
}

// hear counts what the supervisor does about sources that are lost, by whatever fault.
func (t *target) hear(event local.Event) {
	for part, meaning := range map[string]string{
		"is the source now": "a replica was promoted",
		"and rebuilt":       "a former source had what nobody else had, and was rebuilt",
		"is its replica":    "a former source had nothing of its own, and became a replica as it was",
	} {
		if strings.Contains(event.Text, part) {
			t.noted.note(meaning, 1)
		}
	}
	if d := t.disks[event.Process]; d != nil && strings.Contains(event.Text, "is its replica") {
		if err := d.sync(context.Background()); err != nil { // it may have been installed anew
			t.noted.note("a disk could not be synced: "+err.Error(), 1)
		}
	}
}

// await polls how processes stand, in the order of their names.
func (t *target) await(ctx context.Context, within time.Duration, what string, names []string, holds func([]local.Status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		list := t.cluster.Processes()
		all := make([]local.Status, len(names))
		for i, name := range names {
			all[i] = list[slices.IndexFunc(list, func(s local.Status) bool { return s.Name == name })]
		}
		if holds(all) {
			return nil
		}
		if !sleep(ctx, settledPoll/10) {
			return fmt.Errorf("%s: not within %s; it stands so: %+v", what, within, all)
		}
	}
}
