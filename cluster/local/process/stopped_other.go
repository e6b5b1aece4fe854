//go:build !linux

package process

import "time"

// AwaitStopped gives SIGSTOP a moment to reach every thread of a process; there is no /proc to look at.
func AwaitStopped(int) { time.Sleep(50 * time.Millisecond) }
