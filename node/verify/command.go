package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ErrBreach says that at least one invariant does not hold.
var ErrBreach = errors.New("the books have a breach")

// Command is `lockstep verify`.
type Command struct {
	System        string        `help:"Check this system only; the default is every system of the local cluster." xor:"scope"`
	All           bool          `help:"Check what must hold between the systems as well." xor:"scope"`
	SettledWithin time.Duration `help:"With --all: what stands between two systems for longer than this is a breach, too." placeholder:"60s"`
	Dir           string        `help:"Directory of the local cluster." default:".lockstep" type:"path"`
	DSN           []string      `name:"dsn" sep:"none" help:"Data source name of a database to check instead: user:password@tcp(host:port)/database. May be repeated." placeholder:"DSN"`
	JSON          bool          `name:"json" help:"Print a report for machines."`
}

// Help is shown by --help.
func (c *Command) Help() string {
	return `Recomputes every invariant of the books from the journal, in one consistent snapshot per system, beside a running
system. It reads some tables whole, several times: on a large journal point --dsn at a replica.

With --all it then compares the systems with one another, in snapshots taken so that each is judged by a later one of each
other: what one has posted the other has promised or posted, with the same contents, and all money that was deposited is
on an account or in flight. These must be the sources: a replica that is behind shows what looks like a breach.

Exit status 0: all hold. 1: a breach, or it could not be checked; standard error tells which. 2: bad usage.

With --json it prints one object per system and line, whose fields stay:
  {"ok":false,"system":"alpha","accounts":9,"transfers":120,"entries":240,
   "findings":[{"invariant":"books_balance","meaning":"...","holds":false,"took_ns":52000}],
   "breaches":[{"invariant":"books_balance","place":"KRW","detail":"sum 100"}]}
findings has every invariant; breaches at most 20 places for each that does not hold. With --all one more object follows:
  {"ok":true,"systems":["alpha","beta"],"strangers":[],
   "pairs":[{"payer":"alpha","payee":"beta","posted":7,"in_flight":1,"pending":0,"aborting":0,"conflicts":0,
    "flows":[{"currency":"KRW","posted":700,"credited":600,"in_flight":100}],
    "unsettled":[{"id":"...","standing":"in_flight","amount":100,"currency":"KRW","age_ns":52000}]}],
   "money":[{"currency":"KRW","customers":900,"suspense":0,"in_flight":100,"outside":1000,"strangers":0}],
   "findings":[...],"breaches":[...]}`
}

// Run checks and prints; it returns ErrBreach when an invariant does not hold.
func (c *Command) Run(ctx context.Context, out io.Writer) error {
	sources, err := c.sources()
	if err != nil {
		return err
	}
	var breach error
	for _, dsn := range sources {
		report, err := c.verify(ctx, dsn, out)
		if err != nil {
			return err
		}
		if !report.OK() {
			breach = ErrBreach
		}
	}
	if c.All {
		joint, err := c.between(ctx, sources, out)
		if err != nil {
			return err
		}
		if !joint.OK() {
			breach = ErrBreach
		}
	}
	return breach
}

// Validate refuses flags that would have no effect.
func (c *Command) Validate() error {
	if c.SettledWithin < 0 || c.SettledWithin > 0 && !c.All {
		return errors.New("--settled-within goes with --all, and is a time above zero")
	}
	return nil
}

func (c *Command) between(ctx context.Context, sources []string, out io.Writer) (Joint, error) {
	joint, err := Between(ctx, sources, c.SettledWithin)
	switch {
	case err != nil:
		return joint, err
	case c.JSON:
		return joint, json.NewEncoder(out).Encode(jointDocument{joint.OK(), joint})
	}
	_, err = io.WriteString(out, joint.String())
	return joint, err
}

func (c *Command) verify(ctx context.Context, dsn string, out io.Writer) (Report, error) {
	if c.JSON {
		report, err := Run(ctx, dsn, nil)
		if err != nil {
			return report, err
		}
		return report, json.NewEncoder(out).Encode(document{report.OK(), report})
	}
	report, err := Run(ctx, dsn, func(f Finding) { fmt.Fprintln(out, f) })
	if err != nil {
		return report, err
	}
	for _, breach := range report.Breaches {
		fmt.Fprintln(out, " ", breach)
	}
	_, err = fmt.Fprintln(out, report)
	return report, err
}

// document is what --json prints.
type document struct {
	OK bool `json:"ok"`
	Report
}

// jointDocument is what --json prints of several systems.
type jointDocument struct {
	OK bool `json:"ok"`
	Joint
}

// String is a line for people.
func (f Finding) String() string {
	word := "holds"
	if !f.Holds {
		word = "BREACH"
	}
	line := fmt.Sprintf("%-7s %-36s %s", word, f.Invariant, f.Meaning)
	if f.Took == 0 {
		return line // looked for together with others
	}
	return fmt.Sprintf("%s (%s)", line, f.Took.Round(time.Millisecond))
}

// String is a line for people.
func (b Breach) String() string { return fmt.Sprintf("%s: %s: %s", b.Invariant, b.Place, b.Detail) }

// String sums the run up in a line for people.
func (r Report) String() string {
	return fmt.Sprintf("system %s: %d accounts, %d transfers, %d entries: %d invariants, %d breaches",
		r.System, r.Accounts, r.Transfers, r.Entries, len(r.Findings), len(r.Breaches))
}

// sources lists the databases to check.
func (c *Command) sources() ([]string, error) {
	if len(c.DSN) > 0 {
		return c.DSN, nil
	}
	path := filepath.Join(c.Dir, "credentials.json")
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("no local cluster here (start one with `make up`, or name a database with --dsn): %w", err)
	}
	var credentials struct {
		Systems []struct {
			ID  string `json:"id"`
			DSN string `json:"mysql_source_dsn"`
		} `json:"systems"`
	}
	if err := json.Unmarshal(content, &credentials); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var sources, ids []string
	for _, system := range credentials.Systems {
		ids = append(ids, system.ID)
		if c.System == "" || c.System == system.ID {
			sources = append(sources, system.DSN)
		}
	}
	if len(sources) == 0 {
		return nil, fmt.Errorf("%s knows no system %q, only %s", path, c.System, strings.Join(ids, ", "))
	}
	return sources, nil
}
