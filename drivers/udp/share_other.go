//go:build !unix

package udp

import "syscall"

// ShareAddress would have several sockets hear one port; this system has no way for that.
func ShareAddress(_, _ string, _ syscall.RawConn) error { return nil }

// noBroadcast would have the system refuse to send broadcasts by the socket.
func noBroadcast(_, _ string, _ syscall.RawConn) error { return nil }
