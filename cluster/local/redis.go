package local

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// redis is one lock server. It keeps nothing on disk: locks that survive a restart
// of their server would only keep others waiting, for the row locks are the proof.
func (s *system) redis(number, port int) *member {
	m := s.member(fmt.Sprintf("redis-%d", number), kindRedis, port)
	dir := filepath.Join(s.dir, fmt.Sprintf("redis-%d", number))
	m.prepare = func(context.Context) error { return os.MkdirAll(dir, 0o755) }
	m.spec.Path = "redis-server"
	m.spec.Args = []string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
		"--maxmemory", "128mb", "--maxmemory-policy", "noeviction",
	}
	m.probe = func(ctx context.Context) error { return redisCommand(ctx, m.address, "PING", "+PONG") }
	return m
}

// redisCommand sends one command without arguments and checks the simple answer.
// For two such commands a client library would be too much.
func redisCommand(ctx context.Context, address, command, want string) error {
	const answerMax = 2 * time.Second
	conn, err := (&net.Dialer{Timeout: answerMax}).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("reach Redis: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(answerMax))
	if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
		return fmt.Errorf("send %s to Redis: %w", command, err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the answer of Redis to %s: %w", command, err)
	}
	if answer := strings.TrimSpace(line); answer != want {
		return fmt.Errorf("unexpected answer of Redis to %s: %q", command, answer)
	}
	return nil
}
