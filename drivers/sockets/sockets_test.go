package sockets

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// TestDoor takes connections until so many files are open, closes what comes then, and takes others when there is room.
func TestDoor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var refused atomic.Int32
	d := NewDoor(l, "test", slog.New(slog.DiscardHandler), func() { refused.Add(1) })
	probe, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	most := int(probe.Fd()) + 10
	d.limits = func() (int, int) { return most + 100, most }
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	taken := make(chan net.Conn, 100)
	go func() {
		for {
			c, err := d.Accept()
			if err != nil {
				close(taken)
				return
			}
			taken <- c
		}
	}()
	var stays, ours []net.Conn
	for range 20 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ours = append(ours, c)
		select {
		case in := <-taken:
			stays = append(stays, in)
		case <-closed(c):
		}
	}
	if n := len(stays); n == 0 || n > 6 || int(refused.Load()) != 20-n { // each has two ends here
		t.Fatalf("%d of 20 connections were taken, %d are counted as refused", n, refused.Load())
	}
	for _, c := range append(stays, ours...) {
		_ = c.Close()
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	select {
	case in := <-taken:
		_ = in.Close()
	case <-time.After(10 * time.Second):
		t.Error("there is room, and nobody is taken")
	}
	_ = l.Close()
	if _, open := <-taken; open {
		t.Error("a connection nobody made")
	}
}

// closed is closed when the other side has closed a connection.
func closed(c net.Conn) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.ErrNoProgress) {
			panic("nobody writes")
		}
	}()
	return done
}

// TestLimits: files are left, whatever the limit.
func TestLimits(t *testing.T) {
	t.Parallel()
	if files, most := Limits(); most <= 0 || most >= files {
		t.Errorf("%d of %d files may be connections", most, files)
	}
	if err := (&net.Dialer{Control: Control}).Control("", "", number(1<<40)); !errors.Is(err, ErrTooMany) {
		t.Errorf("a file beyond the limit: %v", err)
	}
	if err := Control("", "", number(3)); err != nil {
		t.Error(err)
	}
}

// number is a socket by its number.
type number uintptr

func (n number) Control(f func(uintptr)) error { f(uintptr(n)); return nil }
func (number) Read(func(uintptr) bool) error   { return nil }
func (number) Write(func(uintptr) bool) error  { return nil }
