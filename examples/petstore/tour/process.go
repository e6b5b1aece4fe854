package tour

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	startMax = 30 * time.Second
	endMax   = 20 * time.Second
)

// process is a service that the tour runs, freezes and kills.
type process struct {
	name, program, url string
	args, env          []string
	logs               string // the file

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
}

// start runs the program and returns when it is ready.
func (p *process) start(ctx context.Context) error {
	log, err := os.OpenFile(p.logs, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", p.name, err)
	}
	defer log.Close()
	cmd := exec.Command(p.program, p.args...) //nolint:noctx // it ends by a signal, and may outlive the context of its start
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), p.env...), log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	p.mu.Lock()
	p.cmd, p.ended = cmd, ended
	p.mu.Unlock()
	return p.becomeReady(ctx, ended)
}

func (p *process) becomeReady(ctx context.Context, ended <-chan struct{}) error {
	const look = 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	for {
		if request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/readyz", nil); err == nil {
			if response, err := http.DefaultClient.Do(request); err == nil {
				_ = response.Body.Close()
				if response.StatusCode == http.StatusOK {
					return nil
				}
			}
		}
		select {
		case <-ended:
			return fmt.Errorf("%s ended at once: read %s", p.name, p.logs)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: read %s", p.name, p.logs)
		case <-time.After(look):
		}
	}
}

func (p *process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("%s does not run", p.name)
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("send %v to %s: %w", s, p.name, err)
	}
	return nil
}

// kill ends the process as a power cut would.
func (p *process) kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.ended
	return nil
}

// end asks the process to end, and tells how it did.
func (p *process) end() error {
	if p.cmd == nil {
		return nil
	}
	_ = p.signal(syscall.SIGCONT)
	_ = p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(endMax):
		_ = p.kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM", p.name, endMax)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with status %d: read %s", p.name, code, p.logs)
	}
	return nil
}

func (p *process) freeze() error { return p.signal(syscall.SIGSTOP) }
func (p *process) thaw() error   { return p.signal(syscall.SIGCONT) }
