// Package bench measures the whole of Lockstep against SQL by hand, in one run on one machine: only the ratios mean
// anything elsewhere.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"lockstep/cluster/local"
	"lockstep/node/verify"
)

// Command is `lockstep bench`.
type Command struct {
	Seconds int    `help:"Duration of each load." default:"10"`
	Binary  string `help:"Program that the nodes run; the default is this one." type:"path"`
	Out     string `help:"Where the figures go, as JSON." default:".lockstep/bench.json" type:"path"`
}

// Help is shown by --help.
func (c *Command) Help() string {
	return "Starts a cluster of its own with durable settings, loads it, and prints each figure as a ratio to direct SQL measured in the same run."
}

// Load is what one load reached.
type Load struct {
	Name        string        `json:"name"`
	Connections int           `json:"connections"`
	PerSecond   float64       `json:"per_second"`
	P50         time.Duration `json:"p50_ns"`
	P99         time.Duration `json:"p99_ns"`
}

func (l Load) String() string {
	return fmt.Sprintf("%-28s %4d connections %8.0f/s   p50 %8v   p99 %8v", l.Name, l.Connections, l.PerSecond,
		l.P50.Round(100*time.Microsecond), l.P99.Round(100*time.Microsecond))
}

// Report is all that one run found.
type Report struct {
	DirectPerSecond   float64       `json:"direct_per_second"`
	DirectP50         time.Duration `json:"direct_p50_ns"`
	CombinedPerSecond float64       `json:"combined_256_per_second"`
	Loads             []Load        `json:"loads"`
}

// Run measures and prints.
func (c *Command) Run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "lockstep-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	options := local.Default()
	options.Dir, options.Systems, options.PortBase, options.Binary, options.BufferPoolMB = dir, local.SystemNames(1), 0, c.Binary, 1024
	fmt.Fprintln(out, "starting a cluster: one system, two nodes, a semi-synchronous replica, three Redis servers")
	cluster, err := local.Start(ctx, options)
	if err != nil {
		return err
	}
	defer cluster.Close()
	report, err := c.measure(ctx, cluster, out)
	if err != nil {
		return err
	}
	return c.write(report)
}

func (c *Command) measure(ctx context.Context, cluster *local.Cluster, out io.Writer) (report Report, err error) {
	duration := time.Duration(c.Seconds) * time.Second
	alpha := cluster.Credentials().Systems[0]
	baseline, err := openDirect(ctx, cluster.DSNs(alpha.ID).Admin+"lockstep")
	if err != nil {
		return report, err
	}
	defer baseline.close()
	before, p50, err := baseline.run(ctx, duration, directConns, 1, baseline.single)
	if err != nil {
		return report, err
	}
	fmt.Fprintf(out, "direct SQL, before           %8.0f/s\n", before)
	if report.CombinedPerSecond, _, err = baseline.run(ctx, duration, 1, combined, baseline.many); err != nil {
		return report, err
	}
	fmt.Fprintf(out, "256 per transaction          %8.0f/s\n", report.CombinedPerSecond)
	if _, report.DirectP50, err = baseline.run(ctx, duration/4, 1, 1, baseline.single); err != nil {
		return report, err
	}
	bank, err := openBank(ctx, alpha, func(line string) { fmt.Fprintln(out, line) })
	if err != nil {
		return report, err
	}
	for _, load := range []struct {
		name  string
		conns int
		send  func(int) error
	}{
		{"uniform", 4, bank.uniform}, {"hot", 4, bank.hotspot}, {"uniform", 256, bank.uniform}, {"hot", 256, bank.hotspot},
	} {
		result, err := bank.measure(ctx, load.name, load.conns, duration, load.send)
		if err != nil {
			return report, err
		}
		report.Loads = append(report.Loads, result)
		fmt.Fprintln(out, result)
	}
	after, _, err := baseline.run(ctx, duration, directConns, 1, baseline.single)
	if err != nil {
		return report, err
	}
	fmt.Fprintf(out, "direct SQL, after            %8.0f/s, one alone p50 %v and %v\n", after, p50, report.DirectP50)
	report.DirectPerSecond = (before + after) / 2
	report.print(out)
	return report, books(ctx, alpha.MySQLSourceDSN, out)
}

// print shows the ratios.
func (r Report) print(out io.Writer) {
	uniform, hot := r.Loads[2], r.Loads[3]
	fmt.Fprintf(out, "uniform / direct SQL          %6.2f   (bar 4)\n", uniform.PerSecond/r.DirectPerSecond)
	fmt.Fprintf(out, "uniform / 256 a transaction   %6.2f   (bar 0.3)\n", uniform.PerSecond/r.CombinedPerSecond)
	fmt.Fprintf(out, "hot / uniform                 %6.2f   (bar 0.7)\n", hot.PerSecond/uniform.PerSecond)
	fmt.Fprintf(out, "p50 at 4 / one direct         %6.2f   (bar 3)\n", float64(r.Loads[0].P50)/float64(r.DirectP50))
}

func books(ctx context.Context, dsn string, out io.Writer) error {
	report, err := verify.Run(ctx, dsn, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "verify: %d transfers, %d breaches\n", report.Transfers, len(report.Breaches))
	if !report.OK() {
		return verify.ErrBreach
	}
	return nil
}

func (c *Command) write(report Report) error {
	if err := os.MkdirAll(filepath.Dir(c.Out), 0o755); err != nil {
		return err
	}
	content, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.Out, content, 0o644)
}
