package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

const (
	stopMax    = 15 * time.Second
	readyPause = 20 * time.Millisecond
)

// process is a program that can be started again and killed.
type process struct {
	name, path string
	args, env  []string
	log        string
	ready      func(context.Context) error

	mu   sync.Mutex
	cmd  *exec.Cmd
	gone chan struct{} // closed when cmd has ended
}

func (p *process) start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.path, p.args...) // it outlives its start
	cmd.SysProcAttr = attributes()
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), p.env...), log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	gone := make(chan struct{})
	p.cmd, p.gone = cmd, gone
	go func() { _ = cmd.Wait(); close(gone) }()
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		err := p.ready(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-gone:
			return fmt.Errorf("%s ended: %s; see %s", p.name, cmd.ProcessState, p.log)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.name, errors.Join(ctx.Err(), err))
		case <-time.After(readyPause):
		}
	}
}

func (p *process) kill() error { return p.end(syscall.SIGKILL) }

func (p *process) stop() error { return p.end(syscall.SIGTERM) }

// end returns when the process has ended. One that does not end in order is killed, and that is an error.
func (p *process) end(signal syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	cmd := p.cmd
	p.cmd = nil
	_ = cmd.Process.Signal(signal) // it may have ended already
	select {
	case <-p.gone:
	case <-time.After(stopMax):
		_ = cmd.Process.Kill()
		<-p.gone
		return fmt.Errorf("%s did not end in order; see %s", p.name, p.log)
	}
	if signal == syscall.SIGTERM && !cmd.ProcessState.Success() {
		return fmt.Errorf("%s ended badly: %s; see %s", p.name, cmd.ProcessState, p.log)
	}
	return nil
}

func dial(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// freePorts are free now; nobody keeps them so.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close() // all at the end, so that no port comes twice
		address, ok := listener.Addr().(*net.TCPAddr)
		if !ok {
			return nil, errors.New("a TCP listener without a TCP address")
		}
		ports = append(ports, address.Port)
	}
	return ports, nil
}
