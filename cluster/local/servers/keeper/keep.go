package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"lockstep/cluster/local"
	"lockstep/cluster/local/process"
	"lockstep/cluster/local/servers"
)

const (
	idleMax  = 10 * time.Minute
	idlePoll = 5 * time.Second // at most
	dataMax  = 24 * time.Hour  // failed tests leave databases, which pile up
	system   = "test"
)

// keep runs the servers until nobody has used them for as long as idle, or a signal.
func keep(place servers.Place, idle time.Duration, out io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := process.WritePIDFile(place.PID(), os.Getpid()); err != nil {
		return err
	}
	defer func() { _ = os.Remove(place.PID()) }() // the next start does, if this fails
	cluster, err := local.Start(ctx, local.Options{
		Dir: place.Cluster(), Systems: []string{system}, Replicas: 1,
		ServersOnly: true, Schemas: servers.Schemas, BufferPoolMB: 128,
		Progress: func(e local.Event) {
			fmt.Fprintln(os.Stderr, e.At.Format(time.DateTime), e.Process, e.Text)
		},
	})
	if err != nil {
		return err
	}
	defer cluster.Close()
	if err := publish(place, cluster); err != nil {
		return err
	}
	fmt.Fprintln(out, servers.Ready)

	users := awaitIdle(ctx, place, idle)
	if users != nil {
		defer users.Close() // newcomers wait until all is down, and start afresh
	}
	err = os.Remove(place.State())
	cluster.Close()
	return errors.Join(err, forgetOld(place))
}

// publish writes where the servers are.
func publish(place servers.Place, cluster *local.Cluster) error {
	dsns := cluster.DSNs(system)
	set := servers.Servers{
		RedisAddrs: cluster.Credentials().Systems[0].RedisAddrs,
		Admin:      dsns.Admin, AdminReplica: dsns.AdminReplicas[0],
		Source: dsns.Source, Replica: dsns.Replicas[0], Migrate: dsns.Migrate,
	}
	for into, dsn := range map[*string]string{&set.SourceAddr: dsns.Admin, &set.ReplicaAddr: dsns.AdminReplicas[0]} {
		config, err := mysql.ParseDSN(dsn)
		if err != nil {
			return fmt.Errorf("read DSN: %w", err)
		}
		*into = config.Addr
	}
	text, err := json.MarshalIndent(set, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the servers' addresses: %w", err)
	}
	fresh := place.State() + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return fmt.Errorf("write the servers' addresses: %w", err)
	}
	return os.Rename(fresh, place.State())
}

// awaitIdle returns the users' lock, held alone, when nobody has used the servers
// for as long as idle; or nil when we were told to end.
func awaitIdle(ctx context.Context, place servers.Place, idle time.Duration) *process.FileLock {
	ticks := time.NewTicker(min(idlePoll, idle/4))
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		lock, err := process.Lock(place.Users())
		if err != nil {
			continue // in use
		}
		if info, err := os.Stat(place.Users()); err == nil && time.Since(info.ModTime()) > idle {
			return lock
		}
		_ = lock.Close()
	}
}

// forgetOld removes the data when they are older than dataMax, with what failed
// tests left in them.
func forgetOld(place servers.Place) error {
	born := filepath.Join(place.Cluster(), system, "born")
	info, err := os.Stat(born)
	if errors.Is(err, os.ErrNotExist) {
		return os.WriteFile(born, nil, 0o644)
	}
	if err != nil || time.Since(info.ModTime()) < dataMax {
		return err
	}
	return os.RemoveAll(filepath.Join(place.Cluster(), system))
}
