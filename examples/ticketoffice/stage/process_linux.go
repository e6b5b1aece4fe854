package stage

import "syscall"

// attributes end a child when its parent dies, however that dies.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
