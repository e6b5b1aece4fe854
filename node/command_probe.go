package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// ProbeCommand is `lockstep probe`: the health check of a container whose image has nothing else.
type ProbeCommand struct {
	URL        string `arg:"" help:"Address to ask, such as https://node-1:8080/readyz."`
	CA         string `name:"ca" help:"File (PEM) with the authorities to believe; the default is the machine's."`
	ServerName string `help:"Name that the certificate has to have; the default is the host of the address."`
}

// ErrUnhealthy says that the answer was no 200.
var ErrUnhealthy = errors.New("unhealthy")

const (
	probeMax     = 5 * time.Second
	probeBodyMax = 4096 // bytes
)

// Run asks once, within five seconds.
func (c *ProbeCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeMax)
	defer cancel()
	secured, err := TLS{On: "on", CA: c.CA, ServerName: c.ServerName}.config()
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: secured, DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(answer.Body, probeBodyMax))
		return fmt.Errorf("probe: %w: %s: %s", ErrUnhealthy, answer.Status, strings.TrimSpace(string(said)))
	}
	return nil
}
