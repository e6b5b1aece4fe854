// Package process runs programs that must not outlive or be confused by their
// supervisor: each in a process group of its own, with a log file and a pid file
// that tells a process from a later one that got the same number.
package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Spec says how to run one program.
type Spec struct {
	Name    string   // unique in its cluster, for messages
	Path    string   // the program
	Args    []string // without the program's own name
	Env     []string // complete environment; nil inherits ours
	Dir     string   // working directory; empty keeps ours
	Log     string   // file that standard output and error are appended to
	PIDFile string   // written while the program runs
}

// Process is a program that was started.
type Process struct {
	spec Spec
	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs the program in a process group of its own, so that a Ctrl-C meant
// for the supervisor does not reach it. The program keeps running when the
// supervisor dies; Reap finds it then by its pid file.
func Start(spec Spec) (*Process, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", spec.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(spec.Path, spec.Args...) //nolint:noctx // it may outlive whoever starts it
	cmd.Env, cmd.Dir = spec.Env, spec.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p := &Process{spec: spec, cmd: cmd, done: make(chan struct{})}
	if err := WritePIDFile(spec.PIDFile, cmd.Process.Pid); err != nil {
		p.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	go p.wait()
	return p, nil
}

func (p *Process) wait() {
	_ = p.cmd.Wait() // the state says how it ended
	_ = os.Remove(p.spec.PIDFile)
	close(p.done)
}

// PID is the number of the process, and of its group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended says how the process ended, such as "exit status 1". It waits for the end.
func (p *Process) Ended() string {
	<-p.done
	return p.cmd.ProcessState.String()
}

// Signal sends the signal to the whole group. One that has ended is no error.
func (p *Process) Signal(sig syscall.Signal) {
	select {
	case <-p.done: // the number may be another's by now
	default:
		_ = syscall.Kill(-p.PID(), sig)
	}
}

// Stop sends the signal, waits up to grace for the end, then kills. It reports
// whether the process ended by itself. A frozen process is continued, or it
// could not hear the signal.
func (p *Process) Stop(sig syscall.Signal, grace time.Duration) bool {
	p.Signal(sig)
	p.Signal(syscall.SIGCONT)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		p.Signal(syscall.SIGKILL)
		<-p.done
		return false
	}
}

// LogTail returns the last lines of a log file, at most n, for an error message.
func LogTail(path string, n int) string {
	const tailBytesMax = 8 << 10
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > tailBytesMax {
		_, _ = file.Seek(-tailBytesMax, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(file, tailBytesMax))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Find returns the path of an installed program. Servers live in sbin
// directories, which are often missing on the PATH of ordinary users.
func Find(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/opt/homebrew/bin", "/usr/local/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is missing: run deploy/install.sh: %w", program, ErrMissing)
}

// ErrMissing is the cause when a program is not installed.
var ErrMissing = errors.New("program not found")
