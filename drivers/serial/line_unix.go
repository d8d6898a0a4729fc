//go:build linux || darwin || freebsd || openbsd

package serial

import (
	"os"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"
)

// file is a line read by Go's own poller. The library, which sets the line up, reads by select(2), and that ends the
// whole program where a node has more than 1,024 files open.
type file struct{ *os.File }

// open opens a line, sets it up, and keeps others from it.
func open(name string, mode *serial.Mode) (line, error) {
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	// What the library sets stays with the line, since it is open here, too.
	port, err := serial.Open(name, mode)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	err = port.Close()
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TIOCEXCL, 0)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return file{os.NewFile(uintptr(fd), name)}, nil
}

// Discard implements line.
func (f file) Discard() {
	raw, err := f.SyscallConn()
	if err != nil {
		return // it is closed
	}
	_ = raw.Control(func(fd uintptr) { discard(int(fd)) })
}
