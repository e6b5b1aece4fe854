package idp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Command is `lockstep idp`, the provider that needs no Node.
type Command struct {
	Config string `help:"Configuration file (JSON)." required:"" type:"existingfile" short:"c"`
}

// Run serves until ctx ends, which SIGTERM does.
func (c *Command) Run(ctx context.Context) error {
	config, err := Load(c.Config)
	if err != nil {
		return err
	}
	provider, err := New(config)
	if err != nil {
		return err
	}
	at, err := url.Parse(config.Issuer)
	if err != nil {
		return fmt.Errorf("read the provider's issuer: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", at.Host)
	if err != nil {
		return fmt.Errorf("listen for the provider: %w", err)
	}
	server := &http.Server{Handler: provider, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the provider: %w", err)
	}
	return nil
}
