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
	System string `help:"Check this system only; the default is every system of the local cluster."`
	Dir    string `help:"Directory of the local cluster." default:".lockstep" type:"path"`
	DSN    string `name:"dsn" help:"Data source name of a database to check instead: user:password@tcp(host:port)/database." placeholder:"DSN"`
	JSON   bool   `name:"json" help:"Print a report for machines."`
}

// Help is shown by --help.
func (c *Command) Help() string {
	return `Recomputes every invariant of the books from the journal, in one consistent snapshot per system, beside a running
system. It reads some tables whole, several times: on a large journal point --dsn at a replica.

Exit status 0: all hold. 1: a breach, or it could not be checked; standard error tells which. 2: bad usage.

With --json it prints one object per system and line, whose fields stay:
  {"ok":false,"system":"alpha","accounts":9,"transfers":120,"entries":240,
   "findings":[{"invariant":"books_balance","meaning":"...","holds":false,"took_ns":52000}],
   "breaches":[{"invariant":"books_balance","place":"KRW","detail":"sum 100"}]}
findings has every invariant; breaches at most 20 places for each that does not hold.`
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
	return breach
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

// String is a line for people.
func (f Finding) String() string {
	word := "holds"
	if !f.Holds {
		word = "BREACH"
	}
	return fmt.Sprintf("%-7s %-36s %s (%s)", word, f.Invariant, f.Meaning, f.Took.Round(time.Millisecond))
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
	if c.DSN != "" {
		return []string{c.DSN}, nil
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
