package harness

import "syscall"

// ChildAttributes end a process with the test process, however that ends.
func ChildAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
