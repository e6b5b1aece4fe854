package process

import (
	"encoding/json"
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

func writePIDFile(path string, pid int) error {
	started, err := startTime(pid)
	if err != nil {
		return fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	text, err := json.Marshal(record{PID: pid, Started: started})
	if err != nil {
		return fmt.Errorf("encode the pid file: %w", err)
	}
	return os.WriteFile(path, text, 0o640)
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
		return false, os.Remove(pidFile) // a torn file was written by a crash: its process has no pid yet to name
	}
	if err := left.end(grace); err != nil {
		return true, err
	}
	return true, os.Remove(pidFile)
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
		if err := syscall.Kill(-r.PID, try.sig); err != nil && r.alive() {
			return fmt.Errorf("signal process %d: %w", r.PID, err)
		}
		_ = syscall.Kill(-r.PID, syscall.SIGCONT)
		for deadline := time.Now().Add(try.wait); time.Now().Before(deadline); time.Sleep(poll) {
			if !r.alive() {
				return nil
			}
		}
	}
	return fmt.Errorf("process %d does not end", r.PID)
}
