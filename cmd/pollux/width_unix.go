//go:build unix

package main

import "golang.org/x/sys/unix"

// columnsOf is how wide a terminal is; 0: it is none.
func columnsOf(fd uintptr) int {
	size, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}
