package local

import (
	"context"
	"fmt"
	"io"
)

// CtlCommand is `lockstep ctl`: it controls the processes of a running cluster.
type CtlCommand struct {
	Dir string `default:".lockstep" type:"path" help:"The directory of the cluster."`

	Ps      psCommand      `cmd:"" help:"List the processes and what they do."`
	Kill    killCommand    `cmd:"" help:"Kill a process (SIGKILL); the supervisor starts it again within 2 s."`
	Stop    stopCommand    `cmd:"" help:"Freeze a process where it stands (SIGSTOP)."`
	Cont    contCommand    `cmd:"" help:"Let a frozen process go on (SIGCONT)."`
	Start   startCommand   `cmd:"" help:"End a 'kill --down' or a 'stop'; returns when the process is ready."`
	Restart restartCommand `cmd:"" help:"End a process in good order (SIGTERM); returns when it runs again and is ready."`
	Flush   flushCommand   `cmd:"" help:"Make a Redis server forget all locks."`
}

func (c *CtlCommand) controller() (*Controller, error) {
	credentials, err := ReadCredentials(c.Dir)
	return credentials.Control(), err
}

// do applies one verb to one process and says so.
func (c *CtlCommand) do(ctx context.Context, out io.Writer, verb, process string, down bool) error {
	controller, err := c.controller()
	if err != nil {
		return err
	}
	if err := controller.Do(ctx, verb, process, down); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, process+":", verb, "done")
	return err
}

type processArg struct {
	Process string `arg:"" help:"Its name, such as alpha-node-1, alpha-mysql-source, alpha-mysql-replica-1, alpha-redis-2, alpha-lb or nats-1; 'ctl ps' lists all."`
}

type psCommand struct{}

func (psCommand) Run(ctx context.Context, out io.Writer, ctl *CtlCommand) error {
	controller, err := ctl.controller()
	if err != nil {
		return err
	}
	processes, err := controller.Processes(ctx)
	if err != nil {
		return err
	}
	for _, line := range table(processes) {
		fmt.Fprintln(out, line)
	}
	return nil
}

type killCommand struct {
	processArg
	Down bool `help:"Keep it down until 'start'."`
}

func (k *killCommand) Run(ctx context.Context, out io.Writer, ctl *CtlCommand) error {
	return ctl.do(ctx, out, "kill", k.Process, k.Down)
}

type stopCommand struct{ processArg }

func (s *stopCommand) Run(ctx context.Context, out io.Writer, ctl *CtlCommand) error {
	return ctl.do(ctx, out, "stop", s.Process, false)
}

type contCommand struct{ processArg }

func (c *contCommand) Run(ctx context.Context, out io.Writer, ctl *CtlCommand) error {
	return ctl.do(ctx, out, "cont", c.Process, false)
}

type startCommand struct{ processArg }

func (s *startCommand) Run(ctx context.Context, out io.Writer, ctl *CtlCommand) error {
	return ctl.do(ctx, out, "start", s.Process, false)
}

type restartCommand struct{ processArg }

func (r *restartCommand) Run(ctx context.Context, out io.Writer, ctl *CtlCommand) error {
	return ctl.do(ctx, out, "restart", r.Process, false)
}

type flushCommand struct {
	Redis string `arg:"" help:"Its name, such as alpha-redis-2."`
}

func (f *flushCommand) Run(ctx context.Context, out io.Writer, ctl *CtlCommand) error {
	controller, err := ctl.controller()
	if err != nil {
		return err
	}
	if err := controller.Flush(ctx, f.Redis); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, f.Redis+": flush done")
	return err
}
