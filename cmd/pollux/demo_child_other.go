//go:build !linux

package main

import "syscall"

// demoChild keeps Ctrl-C from a node: this process tells it to stop.
func demoChild() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
