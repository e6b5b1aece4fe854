package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked says that another process holds a lock file.
var ErrLocked = errors.New("locked by another process")

// FileLock is a lock file that is ours until it is closed or we die.
type FileLock struct{ file *os.File }

// Close gives the lock up. It tells the kernel so and does not merely close the
// file: a child that is being started shares our open files until it runs its own
// program, and the lock would last until then.
func (l *FileLock) Close() error {
	return errors.Join(syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN), l.file.Close())
}

// Lock takes a lock file for ourselves alone, or returns ErrLocked at once.
func Lock(path string) (*FileLock, error) { return lock(path, syscall.LOCK_EX|syscall.LOCK_NB) }

// LockWait takes a lock file for ourselves alone and waits while others hold it.
func LockWait(path string) (*FileLock, error) { return lock(path, syscall.LOCK_EX) }

// LockShared takes a lock file together with others who share it, and waits while
// somebody holds it alone.
func LockShared(path string) (*FileLock, error) { return lock(path, syscall.LOCK_SH) }

func lock(path string, how int) (*FileLock, error) {
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
		return &FileLock{file}, nil
	}
	_ = file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, ErrLocked
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}
