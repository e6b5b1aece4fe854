package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// record is the content of a pid file. A number alone is reused after a while;
// with the time at which its process started it names one process for ever.
type record struct {
	PID     int    `json:"pid"`
	Started string `json:"started"`
}

// WritePIDFile records a process for Reap. It replaces the file in one step, so that a crash leaves none torn.
func WritePIDFile(path string, pid int) error {
	started, err := startTime(pid)
	if errors.Is(err, os.ErrProcessDone) {
		return nil // it ended at once; whoever waits for it says why
	}
	if err != nil {
		return fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	text, err := json.Marshal(record{PID: pid, Started: started})
	if err != nil {
		return fmt.Errorf("encode the pid file: %w", err)
	}
	if err := os.WriteFile(path+".new", text, 0o640); err != nil {
		return fmt.Errorf("write the pid file: %w", err)
	}
	return os.Rename(path+".new", path)
}

// Reap ends the process that an earlier supervisor, since crashed, left behind:
// by SIGTERM, and by SIGKILL after grace. It reports whether there was one. A pid
// file whose process has ended, or whose number belongs to another process now,
// is only removed.
func Reap(pidFile string, grace time.Duration) (bool, error) {
	text, err := os.ReadFile(pidFile)
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read pid file: %w", err)
	}
	var left record
	if json.Unmarshal(text, &left) != nil || left.PID <= 1 || !left.alive() {
		return false, remove(pidFile)
	}
	if err := left.end(grace); err != nil {
		return true, err
	}
	return true, remove(pidFile)
}

// remove deletes a pid file; its process may have done so itself at its end.
func remove(pidFile string) error {
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove pid file: %w", err)
	}
	return nil
}

func (r record) alive() bool {
	started, err := startTime(r.PID)
	return err == nil && started == r.Started
}

func (r record) end(grace time.Duration) error {
	const poll, killWait = 20 * time.Millisecond, 5 * time.Second
	for _, try := range []struct {
		sig  syscall.Signal
		wait time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, killWait}} {
		if err := r.signal(try.sig); err != nil && r.alive() {
			return fmt.Errorf("signal process %d: %w", r.PID, err)
		}
		_ = r.signal(syscall.SIGCONT) // a frozen one cannot hear the other
		for deadline := time.Now().Add(try.wait); time.Now().Before(deadline); time.Sleep(poll) {
			if !r.alive() {
				return nil
			}
		}
	}
	return fmt.Errorf("process %d does not end", r.PID)
}

// signal reaches the whole group where the process leads one. A supervisor in
// the foreground does not: its group is the shell's job.
func (r record) signal(sig syscall.Signal) error {
	if group, err := syscall.Getpgid(r.PID); err == nil && group == r.PID {
		return syscall.Kill(-r.PID, sig)
	}
	return syscall.Kill(r.PID, sig)
}
