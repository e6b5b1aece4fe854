package chaos

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"

	"lockstep/cluster/local"
)

// faults are all that can happen to processes and servers. One fault is a name, where it may strike, and how it begins and
// ends; a new one is a line here.
func faults() []fault {
	all := slices.Concat(processFaults(), redisFaults(), databaseFaults(), failoverFaults(), networkFaults(), peerFaults(), eventFaults(), operatorFaults())
	if disksPossible() {
		all = append(all, diskFaults()...)
	}
	return all
}

func processFaults() []fault {
	return []fault{
		{"kill -9 of a node", one("node"), every(kill), every(start)},
		{"SIGSTOP of a node", one("node"), every(stop), every(thaw)},
		{"kill -9 of all nodes at once", all("node"), every(kill), every(start)},
		{"kill -9 of a balancer", one("balancer"), every(kill), every(start)},
		{"SIGSTOP of a balancer", one("balancer"), every(stop), every(thaw)},
		{"kill -9 of NATS", one("nats"), every(kill), every(start)},
		{"SIGSTOP of NATS", one("nats"), every(stop), every(thaw)},
		{"kill -9 of a source", one("mysql-source"), every(kill), every(start)},
		{"SIGSTOP of a source", one("mysql-source"), every(stop), every(thaw)},
		{"kill -9 of a replica", one("mysql-replica"), every(kill), every(start)},
		{"SIGSTOP of a replica", one("mysql-replica"), every(stop), every(thaw)},
		{"SIGSTOP of all replicas of a system", allOfOne("mysql-replica"), every(stop), every(thaw)},
	}
}

// named lists the processes of a kind.
func (t *target) named(kind string) (names []string) {
	for _, process := range t.cluster.Processes() {
		if process.Kind == kind {
			names = append(names, process.Name)
		}
	}
	return names
}

func one(kind string) func(*target, *rand.Rand) []string {
	return func(t *target, random *rand.Rand) []string { return []string{pick(random, t.named(kind))} }
}

func all(kind string) func(*target, *rand.Rand) []string {
	return func(t *target, _ *rand.Rand) []string { return t.named(kind) }
}

func allOfOne(kind string) func(*target, *rand.Rand) []string {
	return func(t *target, random *rand.Rand) []string {
		system := t.systems[random.IntN(len(t.systems))].ID
		return slices.DeleteFunc(t.named(kind), func(name string) bool { return !strings.HasPrefix(name, system+"-") })
	}
}

func kill(_ context.Context, t *target, name string) error { return t.cluster.Kill(name, true) }

func start(ctx context.Context, t *target, name string) error {
	return t.cluster.StartProcess(ctx, name)
}

func stop(_ context.Context, t *target, name string) error { return t.cluster.Stop(name) }

func thaw(_ context.Context, t *target, name string) error { return t.cluster.Continue(name) }

// source is the process that is the source of a system now.
func (t *target) source(system string) string {
	list := t.cluster.Processes()
	return list[slices.IndexFunc(list, func(s local.Status) bool {
		return s.Kind == "mysql-source" && strings.HasPrefix(s.Name, system+"-")
	})].Name
}

// system is the one that a process belongs to.
func (t *target) system(process string) local.SystemCredentials {
	return t.systems[slices.IndexFunc(t.systems, func(s local.SystemCredentials) bool { return strings.HasPrefix(process, s.ID+"-") })]
}

// address is where a process listens.
func (t *target) address(process string) string {
	list := t.cluster.Processes()
	return list[slices.IndexFunc(list, func(s local.Status) bool { return s.Name == process })].Address
}
