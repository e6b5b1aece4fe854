package chaos

import (
	"context"
	"errors"
	"slices"
)

// diskFaults are what disks do to those that trust them. The processes stand on disks of their own in runs that deal them.
func diskFaults() []fault {
	return []fault{
		{"power cut of a replica", one("mysql-replica"), powerCut, every(start)},
		{"power cut of a source", one("mysql-source"), powerCut, every(start)},
		{"power cut of all databases of a system", spareDatabases, powerCutOfAll, together(start)},
		{"power cut of NATS", one("nats"), powerCut, every(start)},
		{"disk of a replica full", one("mysql-replica"), every(fill), every(free)},
		{"disk of NATS full", one("nats"), every(fill), every(free)},
	}
}

// ofDisks tells whether a fault needs disks of our own.
func ofDisks(f fault) bool {
	return slices.ContainsFunc(diskFaults(), func(one fault) bool { return one.name == f.name })
}

// powerCut is one moment for all: the processes say nothing more, the disks forget what nobody has waited for, and the
// processes are gone.
func powerCut(ctx context.Context, t *target, on []string) error {
	for _, step := range []func(context.Context, *target, string) error{
		stop,
		func(_ context.Context, t *target, name string) error { return t.disks[name].cut() },
		kill,
		func(ctx context.Context, t *target, name string) error { return t.disks[name].restore(ctx) },
	} {
		if err := every(step)(ctx, t, on); err != nil {
			return err
		}
	}
	return nil
}

// powerCutOfAll waits first until a former source that is on its way back has come back.
func powerCutOfAll(ctx context.Context, t *target, on []string) error {
	if err := t.whole(ctx, on); err != nil {
		return err
	}
	return powerCut(ctx, t, on)
}

// together does the same to all places at once: a source waits for its replicas until it is ready.
func together(do func(ctx context.Context, t *target, name string) error) func(context.Context, *target, []string) error {
	return func(ctx context.Context, t *target, on []string) (all error) {
		done := make(chan error, len(on))
		for _, name := range on {
			go func() { done <- do(ctx, t, name) }()
		}
		for range on {
			all = errors.Join(all, <-done)
		}
		return all
	}
}

func fill(ctx context.Context, t *target, name string) error { return t.disks[name].fill(ctx) }

// free makes room, and starts the server anew, as an operator would: a database that found no room looks again after a minute,
// and NATS not at all.
func free(ctx context.Context, t *target, name string) error {
	if err := t.disks[name].free(); err != nil {
		return err
	}
	return restart(ctx, t, name)
}
