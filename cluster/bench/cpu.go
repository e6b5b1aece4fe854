package bench

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cpu is the processor time that processes have used, by what they are.
type cpu map[string]time.Duration

// ticksPerSecond is the unit of /proc/<pid>/stat on every platform that Go runs on.
const ticksPerSecond = 100

// spent is what the cluster's processes and the load generator have used so far; nothing where the kernel does not tell.
func (s *stage) spent() cpu {
	used := cpu{"load": cpuOf(os.Getpid())}
	for _, process := range s.Processes() {
		used[kindOf(process.Name)] += cpuOf(process.PID)
	}
	return used
}

// kindOf drops the system's name and all numbers: alpha-mysql-replica-1 is a mysql-replica.
func kindOf(name string) string {
	parts := slices.DeleteFunc(strings.Split(name, "-"), func(part string) bool {
		_, err := strconv.Atoi(part)
		return err == nil
	})
	if len(parts) > 1 {
		parts = parts[1:]
	}
	return strings.Join(parts, "-")
}

// cpuOf is the processor time of a process, 0 when it is not there.
func cpuOf(pid int) time.Duration {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return cpuTimes(string(content))
}

// cpuTimes reads the user and system time out of a line of /proc/<pid>/stat. The name before them may have blanks.
func cpuTimes(stat string) (sum time.Duration) {
	const user, system = 11, 12 // fields behind the name
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) <= system {
		return 0
	}
	for _, field := range []string{fields[user], fields[system]} {
		ticks, _ := strconv.ParseInt(field, 10, 64)
		sum += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	return sum
}

// since is what was used after an earlier look.
func (c cpu) since(before cpu) cpu {
	used := cpu{}
	for kind, time := range c {
		used[kind] = time - before[kind]
	}
	return used
}

// plus adds up two loads' use.
func (c cpu) plus(more cpu) cpu {
	sum := maps.Clone(more)
	for kind, time := range c {
		if sum == nil {
			sum = cpu{}
		}
		sum[kind] += time
	}
	return sum
}

// total leaves the load generator out.
func (c cpu) total() (sum time.Duration) {
	for kind, time := range c {
		if kind != "load" {
			sum += time
		}
	}
	return sum
}

// per shows the microseconds that one of count transfers took, by kind, the largest first.
func (c cpu) per(count int) string {
	kinds := slices.SortedFunc(maps.Keys(c), func(a, b string) int { return cmp.Compare(c[b], c[a]) })
	var shares []string
	for _, kind := range kinds {
		shares = append(shares, fmt.Sprintf("%s %.0f", kind, perTransfer(c[kind], count)))
	}
	return strings.Join(shares, ", ")
}

// perTransfer is in microseconds.
func perTransfer(used time.Duration, count int) float64 {
	return float64(used.Microseconds()) / float64(max(count, 1))
}
