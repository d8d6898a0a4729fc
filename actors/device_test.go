package actors_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// device is a TCP server that a twin connects to. It answers lines by fn; "" is no answer.
type device struct {
	t      testing.TB
	l      net.Listener
	fn     func(line string) string
	mu     sync.Mutex
	got    []string
	conn   []net.Conn
	closed bool
	wg     sync.WaitGroup
	rude   atomic.Bool // it hangs up on the next connection
}

func newDevice(t testing.TB, fn func(line string) string) *device {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, l: l, fn: fn}
	d.wg.Add(1)
	go d.accept()
	atEnd(t, d.close)
	return d
}

func (d *device) uri() string { return "tcp://" + d.l.Addr().String() }

func (d *device) accept() {
	defer d.wg.Done()
	for {
		c, err := d.l.Accept()
		if err != nil {
			return
		}
		if d.rude.CompareAndSwap(true, false) || !d.take(c) {
			_ = c.Close()
			continue
		}
		d.wg.Add(1)
		go d.serve(c)
	}
}

// take keeps a connection for close to end; false if the device was closed before.
func (d *device) take(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.conn = append(d.conn, c)
	}
	return !d.closed
}

func (d *device) serve(c net.Conn) {
	defer d.wg.Done()
	for r := bufio.NewScanner(c); r.Scan(); {
		d.mu.Lock()
		d.got = append(d.got, r.Text())
		d.mu.Unlock()
		if d.fn == nil {
			continue
		}
		if a := d.fn(r.Text()); a != "" {
			fmt.Fprint(c, a+"\n")
		}
	}
}

// say sends a line to everybody who is connected.
func (d *device) say(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conn {
		fmt.Fprint(c, line+"\n")
	}
}

// write sends bytes to everybody who is connected.
func (d *device) write(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conn {
		fmt.Fprint(c, text)
	}
}

// connected waits until the device has taken a connection: the one who dials knows of it before.
func (d *device) connected() {
	d.t.Helper()
	until(d.t, "the device has taken a connection", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.conn) > 0
	})
}

// hangUp closes the connections; the device goes on listening.
func (d *device) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conn {
		_ = c.Close()
	}
	d.conn = nil
}

func (d *device) lines() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.got...)
}

func (d *device) heard(line string) int {
	n := 0
	for _, l := range d.lines() {
		if strings.TrimSpace(l) == line {
			n++
		}
	}
	return n
}

func (d *device) close() {
	_ = d.l.Close()
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.hangUp()
	d.wg.Wait()
}

// relisten opens a device on the address of one that was closed.
func relisten(t testing.TB, addr string) *device {
	t.Helper()
	var l net.Listener
	until(t, "the address is free", func() bool {
		var err error
		l, err = net.Listen("tcp", addr)
		return err == nil
	})
	d := &device{t: t, l: l}
	d.wg.Add(1)
	go d.accept()
	atEnd(t, d.close)
	return d
}
