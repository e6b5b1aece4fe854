package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	stopWait  = time.Second
	stopPause = time.Millisecond
)

// AwaitStopped waits, for a second at most, until SIGSTOP has reached every thread of a process. The signal is only sent
// when kill returns: on a busy machine a thread may still answer a request or two.
func AwaitStopped(pid int) {
	for end := time.Now().Add(stopWait); time.Now().Before(end) && !stopped(pid); {
		time.Sleep(stopPause)
	}
}

// stopped tells whether no thread of the process runs; one that has ended does not.
func stopped(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false
	}
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended meanwhile
		}
		state := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[0]
		if !strings.Contains("TtZX", state) { // proc(5): stopped, traced, zombie, dead
			return false
		}
	}
	return true
}
