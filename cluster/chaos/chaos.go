package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"lockstep/cluster/local"
	"lockstep/node/verify"
)

// Config says how long, how, and where.
type Config struct {
	Seconds  int           `help:"How long clients are kept busy under faults." default:"90"`
	Period   time.Duration `help:"After this, other faults are chosen." default:"8s"`
	Seed     uint64        `help:"Of the faults, and of what clients ask for." default:"1"`
	Locks    bool          `help:"Lose Redis in every way throughout, and nothing else: the lock-loss certificate."`
	Only     []string      `help:"Choose from the faults with one of these in their name only." placeholder:"WORDS"`
	Out      string        `help:"Where the report goes." default:".lockstep/chaos" type:"path"`
	Binary   string        `help:"Program that the nodes run." default:"bin/lockstep" type:"existingfile"`
	Proxy    string        `help:"Toxiproxy's server, which stands between the processes." default:".lockstep/bin/toxiproxy-server" type:"existingfile"`
	PortBase int           `help:"First port of the cluster; 0 takes free ones." default:"0"`
}

// ErrBroken says that something was found that must not be. The report tells what.
var ErrBroken = errors.New("the run has breaches")

const (
	settleMax    = 60 * time.Second // after the last fault, until both sides of every transfer are alike
	remitsLeast  = 0.2              // of the transfers that were asked for
	acrossLeast  = 0.05             // of those that were acknowledged: a peer may be away for long
	bufferPoolMB = 64
)

// run is one run.
type run struct {
	Config
	out     io.Writer
	began   time.Time
	target  *target
	bank    *bank
	nemesis *nemesis
	watch   *watch
	result  *Result

	saying sync.Mutex
}

// Run starts a cluster, keeps clients busy under faults, judges what they were told, and writes the report. It returns
// ErrBroken when the system did what it must not, or the run did not do what it should.
func Run(ctx context.Context, config Config, out io.Writer) (err error) {
	r := &run{Config: config, out: out, began: time.Now(), result: newResult(config)}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if err := r.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.end()) }()
	r.load(ctx)
	if ctx.Err() != nil {
		r.result.fail("the run came to its end", fmt.Sprintf("it was stopped after %.0f of %d s", r.bank.now().Seconds(), r.Seconds))
	}
	if err := r.judge(context.WithoutCancel(ctx)); err != nil {
		r.result.fail("the books could be read", err.Error())
	}
	if err := r.result.write(r.Out); err != nil {
		return err
	}
	r.result.print(out)
	fmt.Fprintf(out, "report: %s\n", filepath.Join(r.Out, reportName))
	if !r.result.OK() {
		fmt.Fprintf(out, "history, books and logs are kept in %s\nthis repeats it: %s\n", r.Out, r.result.Command)
		return ErrBroken
	}
	return nil
}

func (r *run) clusterDir() string { return filepath.Join(r.Out, "cluster") }

// prepare clears what an earlier run left at the place.
func (r *run) prepare(ctx context.Context) error {
	if err := closeDisks(ctx, r.clusterDir()); err != nil {
		return err
	}
	if err := os.RemoveAll(r.Out); err != nil {
		return fmt.Errorf("clear %s: %w", r.Out, err)
	}
	if err := os.MkdirAll(r.Out, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", r.Out, err)
	}
	return nil
}

// start brings up the cluster, with two replicas for each system: a commit is never acknowledged without one of them.
func (r *run) start(ctx context.Context) error {
	chosen := slices.DeleteFunc(faults(), func(f fault) bool { return !r.named(f) })
	if len(chosen) == 0 {
		return fmt.Errorf("no fault is called one of %q", r.Only)
	}
	options := local.Default()
	options.Dir, options.Replicas, options.PortBase, options.Binary = r.clusterDir(), 2, r.PortBase, r.Binary
	options.IDP, options.BufferPoolMB = local.IDPNone, bufferPoolMB
	network, err := openNetwork(ctx, r.Proxy, r.Out)
	if err != nil {
		return err
	}
	options.Via = network.via
	r.target = &target{dir: r.clusterDir(), binary: r.Binary, network: network}
	if slices.ContainsFunc(chosen, ofDisks) {
		if r.target.disks, err = openDisks(ctx, r.clusterDir(), options); err != nil {
			return errors.Join(err, r.end())
		}
	}
	r.say("starting two systems, each with two nodes, a source, two replicas and three Redis servers")
	options.Progress = r.target.hear
	cluster, err := local.Start(ctx, options)
	if err = errors.Join(err, network.wrong); err != nil {
		return errors.Join(err, r.end())
	}
	r.target.cluster, r.target.systems = cluster, cluster.Credentials().Systems
	for _, d := range r.target.disks {
		if err := d.sync(ctx); err != nil {
			return errors.Join(err, r.end())
		}
	}
	if r.bank, err = openBank(ctx, r.target.systems); err != nil {
		return errors.Join(err, r.end())
	}
	if r.watch, err = newWatch(ctx, r.target.systems); err != nil {
		return errors.Join(err, r.end())
	}
	r.nemesis = &nemesis{
		target: r.target, faults: chosen, random: rand.New(rand.NewPCG(r.Seed, 0)), length: r.Period, restful: !r.Locks,
		now: r.bank.now, say: r.say, injectMax: injectMax,
	}
	return nil
}

// load lets clients and the nemesis run against one another.
func (r *run) load(ctx context.Context) {
	running, stop := context.WithCancel(ctx)
	patient, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	r.bank.began = time.Now()
	var working sync.WaitGroup
	working.Go(func() { r.bank.run(running, patient, r.Seed) })
	working.Go(func() { r.progress(running) })
	working.Go(func() { r.watch.run(running) })
	r.nemesis.run(ctx, time.Duration(r.Seconds)*time.Second)
	r.result.Healed = r.bank.now()
	stop()
	r.say("load ended; waiting until all has settled")
	late := time.AfterFunc(settleMax, leave)
	defer late.Stop()
	working.Wait()
	r.result.Seen = append(r.watch.figures(), r.target.noted.figures()...)
	r.result.Periods, r.result.Incidents = r.nemesis.periods, r.nemesis.incidents
}

// judge waits until all has settled, at most until a minute after the last fault, and audits.
func (r *run) judge(ctx context.Context) error {
	r.target.systems = r.target.cluster.Credentials().Systems // the source may be another one
	within, cancel := context.WithTimeout(ctx, max(settleMax-(r.bank.now()-r.result.Healed), time.Second))
	defer cancel()
	books, err := awaitSettled(within, r.target.systems)
	if err != nil {
		return err
	}
	r.result.Settled = r.bank.now() - r.result.Healed
	r.say("settled %.1f s after the last fault; auditing %d operations", r.result.Settled.Seconds(), len(r.bank.ops))
	evidence := Evidence{Opening: opening, Ops: r.bank.ops, Books: books}
	for _, at := range r.bank.branches {
		evidence.Pairs, evidence.Travel = append(evidence.Pairs, at.pairs...), append(evidence.Travel, at.travel...)
	}
	if err := r.keep(evidence); err != nil {
		return err
	}
	r.result.Checks = append(append(r.result.Checks, Audit(evidence)...), r.replicas(ctx, books))
	if err := r.verify(ctx); err != nil {
		return err
	}
	r.result.sum(r.bank.ops)
	r.result.pauses(r.bank.ops)
	r.result.judgeRun()
	return r.crashes()
}

// crashes looks for what ends a node that nobody has killed.
func (r *run) crashes() error {
	check := Check{Name: "no_crash", Meaning: "no node has ended by a panic, an error of the runtime or a data race"}
	logs, err := filepath.Glob(filepath.Join(r.clusterDir(), "logs", "*-node-*.log"))
	if err != nil {
		return err
	}
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read a log: %w", err)
		}
		check.Judged += bytes.Count(text, []byte("\n"))
		for _, sign := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE"} {
			if bytes.HasPrefix(text, []byte(sign)) || bytes.Contains(text, []byte("\n"+sign)) {
				check.breach("%s has %q", filepath.Base(path), sign)
			}
		}
	}
	r.result.Checks = append(r.result.Checks, check)
	return nil
}

// keep writes down what the auditor judges.
func (r *run) keep(e Evidence) error {
	if err := writeLines(filepath.Join(r.Out, "history.jsonl"), e.Ops); err != nil {
		return err
	}
	e.Ops = nil
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("keep the books: %w", err)
	}
	return os.WriteFile(filepath.Join(r.Out, "books.json"), text, 0o644)
}

// verify recomputes every invariant from the journals, each system's and those between them.
func (r *run) verify(ctx context.Context) error {
	var dsns []string
	for _, system := range r.target.systems {
		dsns = append(dsns, system.MySQLSourceDSN)
		report, err := verify.Run(ctx, system.MySQLSourceDSN, nil)
		if err != nil {
			return err
		}
		check := Check{Name: "verify_" + system.ID, Meaning: fmt.Sprintf("the %d invariants of `lockstep verify` hold in %s", len(report.Findings), system.ID), Judged: int(report.Entries)}
		for _, breach := range report.Breaches {
			check.breach("%s: %s: %s", breach.Invariant, breach.Place, breach.Detail)
		}
		r.result.Checks = append(r.result.Checks, check)
	}
	joint, err := verify.Between(ctx, dsns, time.Nanosecond)
	if err != nil {
		return err
	}
	check := Check{Name: "verify_between", Meaning: fmt.Sprintf("the %d rules between the systems hold", len(joint.Findings))}
	for _, pair := range joint.Pairs {
		check.Judged += int(pair.Posted)
	}
	for _, breach := range joint.Breaches {
		check.breach("%s: %s: %s", breach.Invariant, breach.Place, breach.Detail)
	}
	r.result.Checks = append(r.result.Checks, check)
	return nil
}

// end stops the cluster. Its data go; its logs stay when something was wrong.
func (r *run) end() error {
	if r.bank != nil {
		r.bank.close()
	}
	if r.target.cluster != nil {
		r.target.cluster.Close()
	}
	r.target.network.close()
	if err := closeDisks(context.Background(), r.clusterDir()); err != nil {
		return err
	}
	if !r.result.OK() {
		if err := os.Rename(filepath.Join(r.clusterDir(), "logs"), filepath.Join(r.Out, "logs")); err != nil {
			return fmt.Errorf("keep the logs: %w", err)
		}
	}
	return os.RemoveAll(r.clusterDir())
}

// say prints a line of progress with the time since the load began, or since the start before it.
func (r *run) say(format string, args ...any) {
	r.saying.Lock()
	defer r.saying.Unlock()
	since := r.began
	if r.bank != nil && !r.bank.began.IsZero() {
		since = r.bank.began
	}
	fmt.Fprintf(r.out, "%6.1fs  %s\n", time.Since(since).Seconds(), fmt.Sprintf(format, args...))
}

const progressPause = 5 * time.Second

// progress tells how it goes.
func (r *run) progress(ctx context.Context) {
	seen := 0
	for sleep(ctx, progressPause) {
		ops := r.bank.since(seen)
		seen += len(ops)
		acknowledged, refused, across, requests, silent := 0, 0, 0, 0, 0
		for _, op := range ops {
			requests += len(op.Tries)
			for _, t := range op.Tries {
				if t.Status == 0 {
					silent++
				}
			}
			switch {
			case op.End == Applied && op.Kind.moves():
				acknowledged++
				if op.Kind == Remit {
					across++
				}
			case op.End == Refused || op.End == NotApplied:
				refused++
			}
		}
		r.say("%6.0f transfers/s, %.0f of them across, %.0f refused/s, %.0f requests/s, %d without an answer",
			float64(acknowledged)/progressPause.Seconds(), float64(across)/progressPause.Seconds(), float64(refused)/progressPause.Seconds(),
			float64(requests)/progressPause.Seconds(), silent)
	}
}

// named tells whether a fault is to be chosen from.
func (c Config) named(f fault) bool {
	if c.Locks && !strings.Contains(f.name, "Redis") && !strings.Contains(f.name, "FLUSHALL") {
		return false
	}
	return len(c.Only) == 0 || slices.ContainsFunc(c.Only, func(word string) bool { return strings.Contains(f.name, word) })
}

// command is what repeats a run.
func (c Config) command() string {
	words := fmt.Sprintf("make chaos SECONDS=%d SEED=%d", c.Seconds, c.Seed)
	if c.Locks {
		words += " ARGS=--locks"
	}
	if len(c.Only) > 0 {
		words += fmt.Sprintf(" ARGS='--only %q'", strings.Join(c.Only, ","))
	}
	return words
}
