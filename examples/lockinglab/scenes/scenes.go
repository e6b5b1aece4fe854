// Package scenes has every way go through the same loads, next to a running cluster, and says what is not as it should be.
package scenes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"lockstep/examples/lockinglab/engine"
	"lockstep/examples/lockinglab/lab"
	"lockstep/examples/lockinglab/onedb"
	"lockstep/examples/lockinglab/report"
	"lockstep/examples/lockinglab/twodb"
)

// Options say where and how long to measure.
type Options struct {
	Credentials Credentials
	Program     string        // the lab's own, for the services
	Dir         string        // of the services' logs
	Moves       int           // of each counted load
	Accounts    int           // of each load that meets on no account
	Loads       time.Duration // of each timed load; 0: only those that are needed to see what goes wrong
	Out         io.Writer     // progress
}

// ErrSurprise says that something was not as it should be.
var ErrSurprise = errors.New("the lab saw what must not be, or not what must")

// theEngine is how tables call Lockstep's ways.
const (
	theEngine = "Lockstep (over HTTP)"
	theSaga   = "Lockstep's saga"
)

// stage is a run under way.
type stage struct {
	Options
	servers *servers
	log     *os.File
	report  report.Report
}

// Play measures everything and returns the report; its Findings are empty when all was as it should be.
func Play(ctx context.Context, o Options) (_ report.Report, err error) {
	s := &stage{Options: o}
	if s.log, err = openLog(o.Dir); err != nil {
		return s.report, err
	}
	defer s.log.Close()
	if s.servers, err = openServers(ctx, o.Credentials.Systems[:systemsMin]); err != nil {
		return s.report, err
	}
	defer s.servers.close()
	s.report.At = time.Now().UTC()
	s.report.Machine = fmt.Sprintf("%d CPUs, %s, %s; cluster, services and workers on the one machine; each timed load %s",
		runtime.NumCPU(), s.servers.version, s.report.At.Format(time.DateOnly), o.Loads)
	if err := s.oneDatabase(ctx); err != nil {
		return s.report, err
	}
	return s.report, s.twoDatabases(ctx)
}

func openLog(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make a directory for logs: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "services.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of the services: %w", err)
	}
	return log, nil
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.Out, format+"\n", args...) }

// contestant is a way with its name, and what it has to show in the section.
type contestant struct {
	name     string
	way      lab.Way
	patience lab.Patience
	due      due
}

// compete has the contestants go through a load, one after another.
func (s *stage) compete(ctx context.Context, load lab.Load, all []contestant) error {
	section := report.Section{Title: load.Name, Across: strings.HasPrefix(load.Name, "Two")}
	s.say("\n%s", load.Name)
	for _, c := range all {
		result, err := s.measure(ctx, load, c)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", load.Name, c.name, err)
		}
		section.Results = append(section.Results, result)
	}
	s.report.Sections = append(s.report.Sections, section)
	return nil
}

// measure runs one load in one way, when the replicas have nothing left to do of the one before.
func (s *stage) measure(ctx context.Context, load lab.Load, c contestant) (lab.Result, error) {
	if err := s.servers.settle(ctx); err != nil {
		return lab.Result{}, err
	}
	before, err := s.servers.deadlocks(ctx)
	if err != nil {
		return lab.Result{}, err
	}
	result, err := load.Run(ctx, c.way, c.patience)
	if err != nil {
		return lab.Result{}, err
	}
	after, err := s.servers.deadlocks(ctx)
	if err != nil {
		return lab.Result{}, err
	}
	result.Way, result.Deadlocks = c.name, int(after-before)
	s.say("  %s", line(result))
	for _, surprise := range c.due.surprises(result) {
		s.say("  NOT AS IT SHOULD BE: %s", surprise)
		s.report.Findings = append(s.report.Findings, surprise)
	}
	return result, nil
}

// line is a result as progress shows it.
func line(r lab.Result) string {
	books := "books right"
	if !r.Correct() {
		books = fmt.Sprintf("books WRONG: %d lost, %+d made, %d halves", r.Lost, r.Made, r.Halves)
	}
	return fmt.Sprintf("%-28s %8.1f/s  p99 %6d ms  done %d, refused %d, gave up %d, unknown %d; deadlocks %d, timeouts %d, retries %d; %s",
		r.Way, r.PerSecond, r.P99.Milliseconds(), r.Done, r.Refused, r.GaveUp, r.Unknown, r.Deadlocks, r.Timeouts, r.Retries, books)
}

// patient is for ways that need no patience of ours but for a busy answer.
var patient = lab.Patience{Tries: 1000, PauseMin: time.Millisecond, PauseMax: 20 * time.Millisecond}

// oneDatabase compares the seven ways.
func (s *stage) oneDatabase(ctx context.Context) error {
	system := s.Credentials.Systems[0]
	bank, err := onedb.Open(ctx, s.servers.tables[0], manyWorkers, system.Redis)
	if err != nil {
		return err
	}
	defer bank.Close()
	lockstep, err := engine.Open(ctx, manyWorkers, system.engine())
	if err != nil {
		return err
	}
	defer lockstep.Close()
	contestants := func(dues map[string]due) (all []contestant) {
		for _, kind := range onedb.Kinds() {
			d := dues[kind.Name]
			d.timeouts = may // on a very slow machine
			all = append(all, contestant{kind.Name, bank.Way(kind), kind.Patience, d})
		}
		return append(all, contestant{theEngine, lockstep, patient, due{}})
	}
	historic := map[string]due{onedb.NoLock: {wrong: must}, onedb.ForeignKey: {deadlocks: must}}
	if err := s.compete(ctx, points(s.Moves), contestants(historic)); err != nil {
		return err
	}
	both := map[string]due{onedb.NoLock: {wrong: must}, onedb.ForeignKey: {deadlocks: must}, onedb.Unordered: {deadlocks: must}}
	if err := s.compete(ctx, opposite(Opposite, s.Moves), contestants(both)); err != nil {
		return err
	}
	if s.Loads == 0 {
		return nil
	}
	one := map[string]due{onedb.NoLock: {wrong: must}, onedb.ForeignKey: {deadlocks: must}, onedb.Unordered: {deadlocks: may}}
	if err := s.compete(ctx, hot(s.Accounts, s.Loads), contestants(one)); err != nil {
		return err
	}
	many := map[string]due{onedb.NoLock: {wrong: may}, onedb.ForeignKey: {deadlocks: may}, onedb.Unordered: {deadlocks: may}}
	return s.compete(ctx, scattered(s.Accounts, s.Loads), contestants(many))
}

// twoDatabases compares the three ways, and then what a crash does to the last two.
func (s *stage) twoDatabases(ctx context.Context) error {
	first, second := s.Credentials.Systems[0], s.Credentials.Systems[1]
	lockstep, err := engine.Open(ctx, manyWorkers, first.engine(), second.engine())
	if err != nil {
		return err
	}
	defer lockstep.Close()
	type part struct {
		load     lab.Load
		timeouts chance // of the way that locks its own row first
	}
	parts := []part{{across(Across, fewWorkers, 2, cmp.Or(s.Loads, acrossLoad)), must}}
	if s.Loads > 0 {
		parts = append(parts,
			part{across(AcrossHot, manyWorkers, 2, s.Loads), must},
			part{across(AcrossScattered, manyWorkers, s.Accounts, s.Loads), may})
	}
	for _, p := range parts {
		if err := s.between(ctx, p.load, p.timeouts, lockstep); err != nil {
			return err
		}
	}
	return s.crashes(ctx, lockstep)
}

// between runs one load between two databases.
func (s *stage) between(ctx context.Context, load lab.Load, timeouts chance, lockstep *engine.Bank) error {
	own, err := s.pair(ctx, twodb.OwnFirst, 0)
	if err != nil {
		return err
	}
	defer own.Close()
	remote, err := s.pair(ctx, twodb.RemoteFirst, 0)
	if err != nil {
		return err
	}
	defer remote.Close()
	return s.compete(ctx, load, []contestant{
		{"own row first, then call", own, lab.Soon, due{timeouts: timeouts}},
		{"call first, then own row", remote, lab.Soon, due{timeouts: may}},
		{theSaga, lockstep, patient, due{}},
	})
}

func (s *stage) pair(ctx context.Context, order string, crash int64) (*twodb.Pair, error) {
	return twodb.Open(ctx, twodb.Options{
		Program: s.Program, DSNs: [2]string{s.Credentials.Systems[0].Source, s.Credentials.Systems[1].Source},
		Order: order, Log: s.log, Crash: crash,
	})
}

// crashes kills a process in the middle of a load: the bank that has called and not yet debited, and a node of Lockstep's
// payer system, at whatever it does then.
func (s *stage) crashes(ctx context.Context, lockstep *engine.Bank) error {
	at := int64(s.Moves / 4)
	remote, err := s.pair(ctx, twodb.RemoteFirst, at)
	if err != nil {
		return err
	}
	defer remote.Close()
	node := s.Credentials.Systems[0].ID + "-node-1"
	return s.compete(ctx, opposite(Crash, s.Moves), []contestant{
		{"call first, then own row", remote, patient, due{wrong: must, timeouts: may}},
		{theSaga, &killing{Bank: lockstep, at: at, kill: func() error { return s.Credentials.kill(ctx, node) }}, patient, due{}},
	})
}
