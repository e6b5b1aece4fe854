package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"lockstep/cluster/local"
)

// disk is a file system of its own in a file, so that it can lose its power and have no room left.
type disk struct{ image, at string }

const (
	diskBytes = 8 << 30 // of a sparse file: what was set aside after a failover has to have room, too
	fillLeast = 1 << 12

	shutdownRequest = 0x8004587d // EXT4_IOC_SHUTDOWN, which XFS had first
	noLogFlush      = 2          // nothing that waits in memory reaches the disk any more, the file system's journal included
)

// disksPossible tells whether we may mount: that needs root, Linux and the programs.
func disksPossible() bool {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		return false
	}
	for _, program := range []string{"mkfs.ext4", "mount", "umount", "truncate", "fallocate", "sync"} {
		if _, err := exec.LookPath(program); err != nil {
			return false
		}
	}
	_, err := os.Stat("/dev/loop-control")
	return err == nil
}

// openDisks gives each database and NATS a disk of its own below the cluster's directory, by the names of their processes.
func openDisks(ctx context.Context, dir string, options local.Options) (map[string]*disk, error) {
	disks := map[string]*disk{}
	add := func(process string, path ...string) error {
		d := &disk{image: filepath.Join(dir, process+".ext4"), at: filepath.Join(append([]string{dir}, path...)...)}
		disks[process] = d
		return d.make(ctx)
	}
	if err := add("nats-1", "nats-1"); err != nil {
		return nil, err
	}
	for _, system := range options.Systems {
		names := []string{"mysql-source"}
		for n := range options.Replicas {
			names = append(names, fmt.Sprintf("mysql-replica-%d", n+1))
		}
		for _, name := range names {
			if err := add(system+"-"+name, system, name); err != nil {
				return nil, err
			}
		}
	}
	return disks, nil
}

func (d *disk) make(ctx context.Context) error {
	if err := os.MkdirAll(d.at, 0o755); err != nil {
		return fmt.Errorf("make the place of a disk: %w", err)
	}
	if err := command(ctx, "truncate", "--size", fmt.Sprint(diskBytes), d.image); err != nil {
		return err
	}
	if err := command(ctx, "mkfs.ext4", "-q", "-m", "0", "-F", d.image); err != nil {
		return err
	}
	return d.mount(ctx)
}

func (d *disk) mount(ctx context.Context) error {
	return command(ctx, "mount", "-o", "loop", d.image, d.at)
}

// sync writes all that there is to the disk: what was installed, and is not a server's to sync, is there for long.
func (d *disk) sync(ctx context.Context) error { return command(ctx, "sync", "--file-system", d.at) }

// cut makes the disk forget at once what nobody has waited for, and keep nothing from now on. It is there again, as it would
// be after a power cut, when its process is gone and restore was called.
func (d *disk) cut() error {
	root, err := os.Open(d.at)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unix.IoctlSetPointerInt(int(root.Fd()), shutdownRequest, noLogFlush); err != nil {
		return fmt.Errorf("cut the power of %s: %w", d.at, err)
	}
	return nil
}

// restore mounts it anew; the file system reads its journal.
func (d *disk) restore(ctx context.Context) error {
	if err := command(ctx, "umount", d.at); err != nil {
		return err
	}
	return d.mount(ctx)
}

func (d *disk) filler() string { return filepath.Join(d.at, "filler") }

// fill leaves no room.
func (d *disk) fill(ctx context.Context) error {
	file, err := os.Create(d.filler())
	if err != nil {
		return err
	}
	defer file.Close()
	for size, at := int64(1<<33), int64(0); size >= fillLeast; {
		if command(ctx, "fallocate", "--offset", fmt.Sprint(at), "--length", fmt.Sprint(size), d.filler()) != nil {
			size /= 2
			continue
		}
		at += size
	}
	if _, err := file.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	for range diskBytes / fillLeast {
		if _, err := file.Write(make([]byte, fillLeast)); errors.Is(err, syscall.ENOSPC) {
			return nil
		}
	}
	return fmt.Errorf("%s is not full", d.at)
}

// free removes what fill has written.
func (d *disk) free() error { return os.Remove(d.filler()) }

// closeDisks takes all disks away that are mounted below a directory, those that an earlier run left included.
func closeDisks(ctx context.Context, dir string) error {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil //nolint:nilerr // a system without it has no disks of ours
	}
	var mounted []string
	for line := range strings.SplitSeq(string(text), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			mounted = append(mounted, fields[1])
		}
	}
	slices.Reverse(mounted)
	for _, at := range mounted {
		if err := command(ctx, "umount", at); err != nil {
			return err
		}
	}
	return nil
}

func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}
