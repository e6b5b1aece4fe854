//go:build !linux

package stage

import "syscall"

// attributes are the system's own: a child outlives a parent that is killed.
func attributes() *syscall.SysProcAttr { return nil }
