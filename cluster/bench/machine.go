package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// machine tells what the figures were measured on.
func machine() map[string]string {
	m := map[string]string{
		"cpus": strconv.Itoa(runtime.NumCPU()), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
	}
	if model := lineOf("/proc/cpuinfo", "model name"); model != "" {
		m["cpu"] = model
	}
	return m
}

// lineOf is the value of the first line `name: value` of a file of the kernel; empty where there is none.
func lineOf(path, name string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return "" // not Linux
	}
	for line := range strings.Lines(string(content)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// describe adds the versions of the servers to the report.
func (s *stage) describe(ctx context.Context) error {
	var version string
	if err := s.source.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return fmt.Errorf("ask the source for its version: %w", err)
	}
	s.report.Machine["mariadb"] = version
	server := redis.NewClient(&redis.Options{Addr: s.system.RedisAddrs[0]})
	defer func() { _ = server.Close() }()
	info, err := server.InfoMap(ctx, "server").Result()
	if err != nil {
		return fmt.Errorf("ask Redis for its version: %w", err)
	}
	s.report.Machine["redis"] = info["Server"]["redis_version"]
	return nil
}

// noteMemory keeps the largest peak of any node's resident memory, in MiB.
func (s *stage) noteMemory(ctx context.Context) error {
	for node := range s.system.AdminURLs {
		size, err := s.memory(ctx, node)
		if err != nil {
			return err
		}
		s.peak = max(s.peak, size)
	}
	return nil
}

// memory is a node's resident memory in MiB: its peak where the kernel keeps it, else what it is now.
func (s *stage) memory(ctx context.Context, node int) (float64, error) {
	const kib, mib = 1 << 10, 1 << 20
	path := fmt.Sprintf("/proc/%d/status", s.pid(node))
	if peak, _, found := strings.Cut(lineOf(path, "VmHWM"), " "); found {
		size, err := strconv.ParseFloat(peak, 64)
		return size / kib, err
	}
	bytes, err := s.metric(ctx, node, "process_resident_memory_bytes")
	return bytes / mib, err
}

// pid is the process of a node, counted from 0; 0 when it is down.
func (s *stage) pid(node int) int {
	name := s.nodeName(node)
	for _, process := range s.Processes() {
		if process.Name == name {
			return process.PID
		}
	}
	return 0
}

// nodeName is what the cluster calls a node, counted from 0.
func (s *stage) nodeName(node int) string { return fmt.Sprintf("%s-node-%d", s.system.ID, node+1) }

// metric reads a metric from a node's admin listener, such as `lockstep_posting_commands_total`: the sum over all its
// series that carry each of the labels, written like `outcome="ok"`. A metric that is not there counts 0.
func (s *stage) metric(ctx context.Context, node int, name string, labels ...string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.system.AdminURLs[node]+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("read metrics of %s: %w", s.nodeName(node), err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("read metrics of %s: %s: %w", s.nodeName(node), response.Status, err)
	}
	return sumMetric(text, name, labels), nil
}

// sumMetric adds up the samples of a metric in Prometheus' text format.
func sumMetric(text []byte, name string, labels []string) (sum float64) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		series, value, _ := strings.Cut(lines.Text(), " ")
		if at := strings.LastIndexByte(lines.Text(), ' '); at > 0 { // a label's value may have blanks
			series, value = lines.Text()[:at], lines.Text()[at+1:]
		}
		found, rest, _ := strings.Cut(series, "{")
		if found != name {
			continue
		}
		every := true
		for _, label := range labels {
			every = every && strings.Contains(rest, label)
		}
		if number, err := strconv.ParseFloat(value, 64); err == nil && every {
			sum += number
		}
	}
	return sum
}
