// Package sockets keeps connections from taking every file that the process may have open: the last of them are for the databases, which cannot go on without.
//
// The system gives a new file the lowest number that is free (POSIX, "File Descriptor Allocation"). So a connection's own number says how many files are open at least, and
// nobody has to count them.
package sockets

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrTooMany: so many files are open that no more connections are made or taken.
var ErrTooMany = errors.New("too many files are open")

// kept is what of the files is not for connections: a quarter, and at most so many.
const kept = 16_384

// sayEvery is how often a door says that it turns connections away.
const sayEvery = 10 * time.Second

// Limits gives how many files the process may have open, and how many of them when the last connection comes.
func Limits() (files, most int) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return math.MaxInt32, math.MaxInt32
	}
	files = int(min(uint64(r.Cur), math.MaxInt32))
	return files, files - min(files/4, kept)
}

// check says whether a socket may stay.
func check(c syscall.RawConn, limits func() (files, most int)) error {
	var number uintptr
	if err := c.Control(func(fd uintptr) { number = fd }); err != nil {
		return err
	}
	if files, most := limits(); number >= uintptr(most) {
		return fmt.Errorf("%w: %d of %d may be connections; raise the limit (ulimit -n, LimitNOFILE)", ErrTooMany, most, files)
	}
	return nil
}

// Control is the Control of a net.Dialer or net.ListenConfig: it fails with ErrTooMany.
func Control(_, _ string, c syscall.RawConn) error { return check(c, Limits) }

// Door takes connections as long as they leave enough files, and closes the others at once.
type Door struct {
	net.Listener
	// Vanished is after how long without an answer the other side is taken to be gone, without a word: then the connection ends (on Linux).
	// 0: the system's own time, some minutes. Set it before the first Accept.
	Vanished time.Duration

	name   string
	log    *slog.Logger
	closed func()
	limits func() (files, most int)
	said   atomic.Int64 // when, in nanoseconds since 1970
}

// NewDoor makes a listener of TCP connections one that is a Door. closed is called for each connection that it closes.
func NewDoor(l net.Listener, name string, log *slog.Logger, closed func()) *Door {
	return &Door{Listener: l, name: name, log: log, limits: Limits, closed: closed}
}

// Accept gives the next connection that may stay. Where the process has no file left at all it waits for one, as for a connection.
func (d *Door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		switch {
		case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
			d.turnedAway(err)
			time.Sleep(50 * time.Millisecond)
			continue
		case err != nil:
			return nil, err
		}
		c, ok := conn.(syscall.Conn)
		if !ok {
			return conn, nil
		}
		raw, err := c.SyscallConn()
		if err == nil {
			err = check(raw, d.limits)
		}
		if err == nil {
			if d.Vanished > 0 {
				notice(raw, d.Vanished)
			}
			return conn, nil
		}
		d.turnedAway(err)
		_ = conn.Close()
	}
}

func (d *Door) turnedAway(why error) {
	d.closed()
	now := time.Now().UnixNano()
	if was := d.said.Load(); now-was > int64(sayEvery) && d.said.CompareAndSwap(was, now) {
		d.log.Warn("connections are turned away", "door", d.name, "error", why)
	}
}
