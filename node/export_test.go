package node

import (
	"io"
	"log/slog"
)

// NewLogger is the logger of a node that writes elsewhere.
func NewLogger(out io.Writer) *slog.Logger { return logTo(out, slog.LevelInfo) }
