//go:build unix

package udp

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// ShareAddress, as the Control of a net.ListenConfig, lets several sockets hear one port.
func ShareAddress(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	return errors.Join(err, failed)
}

// noBroadcast has the system refuse to send broadcasts by the socket, which Go's sockets may.
func noBroadcast(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 0) })
	return errors.Join(err, failed)
}
