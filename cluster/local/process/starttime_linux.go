package process

import (
	"fmt"
	"os"
	"strings"
)

// startTime returns the clock tick at which a living process started, with the
// boot it belongs to. A zombie counts as ended: where the first process of a
// container does not reap, it stays for ever.
func startTime(pid int) (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The second field is the name in brackets and may hold blanks and brackets.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const state, start = 0, 19 // proc(5): fields 3 and 22
	if len(fields) <= start || fields[state] == "Z" || fields[state] == "X" {
		return "", os.ErrProcessDone
	}
	return strings.TrimSpace(string(boot)) + "/" + fields[start], nil
}
