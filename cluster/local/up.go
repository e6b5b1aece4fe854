package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// UpCommand is `lockstep up`.
type UpCommand struct {
	Systems       int           `default:"2" help:"How many payment systems: alpha, beta, gamma, ... (1-8)."`
	Nodes         int           `default:"2" help:"Nodes per system (1-9)."`
	Replicas      int           `default:"1" help:"MariaDB replicas per system (0-6)."`
	FailoverAfter time.Duration `default:"4s" help:"Promote a replica when a source gives no answer for so long; 0 is never. It takes two replicas or more."`
	PortBase      int           `default:"8080" help:"Port of alpha's balancer; all other ports follow from it. Clusters side by side need bases 100 apart, such as 8080 and 9080."`
	IDP           string        `name:"idp" default:"auto" help:"OpenID provider that stands in for Google: auto (npm's oidc-provider where Node is, else the built-in one), node, builtin or none."`
	Traces        string        `placeholder:"URL" help:"Collector that the nodes send a trace of every request to, by OTLP over HTTP, such as http://127.0.0.1:4318."`
	Dir           string        `default:".lockstep" type:"path" help:"Where data, logs and credentials.json are."`
	Detach        bool          `help:"Return when all is ready; 'lockstep down' stops the cluster."`
	Binary        string        `type:"path" placeholder:"FILE" help:"The lockstep program for the nodes, if not this one."`

	ReportFD int `hidden:"" name:"report-fd" help:"Where a detached supervisor reports its start."`
}

// Validate refuses what cannot run, before anything starts.
func (u *UpCommand) Validate() error { return u.options().Validate() }

func (u *UpCommand) options() Options {
	names := SystemNames(u.Systems)
	if u.Systems != len(names) {
		names = nil // out of range, which Options.Validate reports
	}
	after := u.FailoverAfter
	if after == 0 {
		after = -1
	}
	options := Options{
		FailoverAfter: after,
		Dir:           u.Dir, Systems: names, Nodes: u.Nodes, Replicas: u.Replicas, PortBase: u.PortBase, Binary: u.Binary, IDP: u.IDP,
		Guests: exampleGuests(),
	}
	if u.Traces != "" {
		options.NodeConfig = map[string]any{"traces": map[string]any{"endpoint": u.Traces, "sample": 1}}
	}
	return options
}

// Run starts the cluster and stays with it until the context ends or `lockstep
// down` asks; with Detach it returns when all is ready.
func (u *UpCommand) Run(ctx context.Context, out io.Writer) error {
	if u.Detach {
		return u.detach(ctx, out)
	}
	if u.ReportFD == 0 {
		return u.supervise(ctx, out, nil)
	}
	report := os.NewFile(uintptr(u.ReportFD), "report")
	defer report.Close()
	err := u.supervise(ctx, out, report)
	if err != nil {
		fmt.Fprintf(report, "%s\n%v\n", reportFailed, err) // a no-op when it was ready before
	}
	return err
}

// supervise runs the cluster. report, if any, hears of the start and no more.
func (u *UpCommand) supervise(ctx context.Context, out io.Writer, report io.WriteCloser) error {
	// A terminal that is closed, or a pipe that nobody reads any more, must not end us
	// before our processes.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	began, view := time.Now(), newScreen(out)
	options := u.options()
	options.Progress = func(e Event) {
		view.event(e)
		if report != nil {
			fmt.Fprintln(report, formatEvent(e)) // fails once nobody listens any more
		}
	}
	cluster, err := Start(ctx, options)
	if ctx.Err() != nil {
		return fmt.Errorf("stopped before all was ready: %w", ctx.Err())
	}
	if err != nil {
		return err
	}
	defer cluster.Close()
	view.print(addresses(cluster.Credentials(), u.Dir))
	view.print(fmt.Sprintf("ready in %.1f s", time.Since(began).Seconds()))
	if report != nil {
		fmt.Fprintln(report, reportReady)
		_ = report.Close()
	}
	view.watch(ctx, cluster)
	view.print("stopping")
	cluster.Close()
	view.print("stopped; the data stay in " + u.Dir)
	return nil
}

// The words with which a detached supervisor ends its report.
const (
	reportReady  = "ready"
	reportFailed = "failed"
)

// detach runs the supervisor as a process of its own and follows its start.
func (u *UpCommand) detach(ctx context.Context, out io.Writer) error {
	began := time.Now()
	supervisor, report, err := u.spawn()
	if err != nil {
		return err
	}
	defer report.Close()
	stop := context.AfterFunc(ctx, func() { _ = supervisor.Process.Signal(syscall.SIGTERM) })
	defer stop()
	lines := bufio.NewScanner(report)
	for lines.Scan() {
		switch lines.Text() {
		case reportReady:
			credentials, err := ReadCredentials(u.Dir)
			if err != nil {
				return err
			}
			fmt.Fprintln(out, addresses(credentials, u.Dir))
			fmt.Fprintf(out, "ready in %.1f s; 'lockstep down' stops it\n", time.Since(began).Seconds())
			return supervisor.Process.Release()
		case reportFailed:
			failure := scanRest(lines)
			_ = supervisor.Wait() // it has told more than its exit status does
			return failure
		default:
			fmt.Fprintln(out, lines.Text())
		}
	}
	return fmt.Errorf("the supervisor ended (%w); see %s", supervisor.Wait(), u.logPath())
}

func scanRest(lines *bufio.Scanner) error {
	var text []string
	for lines.Scan() {
		text = append(text, lines.Text())
	}
	return errors.New(strings.Join(text, "\n"))
}

// spawn starts ourselves again, in a session of its own, with a pipe to report on.
func (u *UpCommand) spawn() (*exec.Cmd, *os.File, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("find our own program: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(u.logPath()), 0o755); err != nil {
		return nil, nil, fmt.Errorf("make the cluster's directory: %w", err)
	}
	log, err := os.OpenFile(u.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, nil, fmt.Errorf("open the supervisor's log: %w", err)
	}
	defer log.Close()
	report, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("start the supervisor: %w", err)
	}
	defer theirs.Close()
	const firstExtraFD = 3
	supervisor := exec.Command(self, "up", //nolint:noctx // it outlives this command
		fmt.Sprintf("--systems=%d", u.Systems), fmt.Sprintf("--nodes=%d", u.Nodes),
		fmt.Sprintf("--replicas=%d", u.Replicas), fmt.Sprintf("--port-base=%d", u.PortBase),
		"--failover-after="+u.FailoverAfter.String(), "--idp="+u.IDP, "--traces="+u.Traces, "--dir="+u.Dir,
		fmt.Sprintf("--report-fd=%d", firstExtraFD))
	if u.Binary != "" {
		supervisor.Args = append(supervisor.Args, "--binary="+u.Binary)
	}
	supervisor.Stdout, supervisor.Stderr, supervisor.ExtraFiles = log, log, []*os.File{theirs}
	supervisor.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := supervisor.Start(); err != nil {
		return nil, nil, fmt.Errorf("start the supervisor: %w", errors.Join(err, report.Close()))
	}
	return supervisor, report, nil
}

func (u *UpCommand) logPath() string { return filepath.Join(u.Dir, "logs", "supervisor.log") }

// addresses is what a newcomer needs to see when the cluster is up.
func addresses(all Credentials, dir string) string {
	var b strings.Builder
	for _, s := range all.Systems {
		fmt.Fprintf(&b, "%-8s %s  (nodes %s)\n", s.ID, s.BaseURL, strings.Join(s.Nodes, ", "))
	}
	fmt.Fprintf(&b, "people   alice and bob sign in at %s/wallet\n", all.Systems[0].BaseURL)
	fmt.Fprintf(&b, "secrets  %s\n", credentialsPath(dir))
	fmt.Fprintf(&b, "control  lockstep ctl ps|kill|stop|cont|start|restart|flush  (%s)", all.ControlURL)
	return b.String()
}
