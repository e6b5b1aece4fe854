package node

import (
	"io"
	"log/slog"
	"net"
)

// Listen opens the REST listener of a configuration.
func Listen(config Config) (net.Listener, error) { return config.listen() }

// NewLogger is the logger of a node that writes elsewhere.
func NewLogger(out io.Writer) *slog.Logger { return logTo(out, slog.LevelInfo) }
