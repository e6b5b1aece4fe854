package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked says that another process holds a lock file.
var ErrLocked = errors.New("locked by another process")

// Lock takes a lock file for ourselves alone, or returns ErrLocked at once. The
// lock lasts until the file is closed or we die; children do not inherit it.
func Lock(path string) (*os.File, error) { return lock(path, syscall.LOCK_EX|syscall.LOCK_NB) }

// LockWait takes a lock file for ourselves alone and waits while others hold it.
func LockWait(path string) (*os.File, error) { return lock(path, syscall.LOCK_EX) }

// LockShared takes a lock file together with others who share it, and waits while
// somebody holds it alone.
func LockShared(path string) (*os.File, error) { return lock(path, syscall.LOCK_SH) }

func lock(path string, how int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	for {
		err = syscall.Flock(int(file.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return file, nil
	}
	_ = file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, ErrLocked
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}
