//go:build darwin || freebsd || openbsd

package serial

import "golang.org/x/sys/unix"

// fwrite is FWRITE of <sys/fcntl.h>: the output queue.
const fwrite = 2

func discard(fd int) { _ = unix.IoctlSetPointerInt(fd, unix.TIOCFLUSH, fwrite) }
