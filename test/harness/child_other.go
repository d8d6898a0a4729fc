//go:build !linux

package harness

import "syscall"

// ChildAttributes are those of any process: this system has no way to end one with the test process.
func ChildAttributes() *syscall.SysProcAttr { return nil }
