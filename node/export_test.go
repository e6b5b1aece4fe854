package node

import (
	"io"
	"log/slog"
	"net"
	"time"
)

// Listen opens the REST listener of a configuration.
func Listen(config Config) (net.Listener, error) { return config.listen() }

// NewLogger is the logger of a node that writes elsewhere.
func NewLogger(out io.Writer) *slog.Logger { return logTo(out, slog.LevelInfo) }

// FaultClock is the clock that a node has with these fault points.
func FaultClock(points map[string]float64) func() time.Time { return faultClock(points) }
