package scenes

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"lockstep/examples/lockinglab/engine"
	"lockstep/examples/lockinglab/lab"
)

// killing is Lockstep's way, during which a process is killed, once.
type killing struct {
	*engine.Bank
	at    int64 // before this try, counted from 1
	kill  func() error
	tries atomic.Int64
}

// Try kills when it is time to.
func (k *killing) Try(ctx context.Context, move lab.Move) error {
	if k.tries.Add(1) == k.at {
		if err := k.kill(); err != nil {
			return err
		}
	}
	return k.Bank.Try(ctx, move)
}

// killMax bounds the request to the cluster's supervisor.
const killMax = 10 * time.Second

// kill sends SIGKILL to a process of the cluster; its supervisor starts it again.
func (c Credentials) kill(ctx context.Context, process string) error {
	ctx, cancel := context.WithTimeout(ctx, killMax)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.ControlURL+"/processes/"+process+"/kill", nil)
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+c.ControlToken)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("kill %s: %w", process, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("kill %s: %s", process, response.Status)
	}
	return nil
}
