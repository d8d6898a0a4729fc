package sockets

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// notice has a TCP connection end when the other side has acknowledged nothing of what was sent, probes of keep-alive included, for so
// long (TCP_USER_TIMEOUT of tcp(7); RFC 5482). The system's own time is about a quarter of an hour, which holds where it cannot be set.
func notice(c syscall.RawConn, after time.Duration) {
	_ = c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after.Milliseconds()))
	})
}
