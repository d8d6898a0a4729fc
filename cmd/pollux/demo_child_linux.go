package main

import "syscall"

// demoChild ends a node with this process, however that ends; Ctrl-C goes to this process alone.
func demoChild() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
