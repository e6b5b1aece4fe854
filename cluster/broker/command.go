package broker

import (
	"context"
	"log/slog"
	"os"
)

// Command is `lockstep broker`.
type Command struct {
	Config string `help:"Configuration file (YAML)." required:"" type:"existingfile" short:"c"`
}

// Run serves until ctx ends, which SIGTERM does.
func (c *Command) Run(ctx context.Context) error {
	config, err := Load(c.Config)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	broker, err := Open(config, log)
	if err != nil {
		return err
	}
	<-ctx.Done()
	log.Info("broker ends")
	broker.Close()
	log.Info("broker has ended")
	return nil
}
