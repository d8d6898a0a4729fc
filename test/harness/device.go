package harness

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/pjlink/sim"
	"github.com/polluxhq/pollux/test/journal"
)

// Devices are simulated devices on TCP that note which node tells them what, and when.
type Devices struct {
	t     testing.TB
	nodes func() []*Node

	mu    sync.Mutex
	conns []*journal.Conn
	ends  sync.WaitGroup
	ctx   context.Context
}

// NewDevices returns none yet. nodes are those that may talk to them; nil: it is not noted who does.
func NewDevices(t testing.TB, nodes func() []*Node) *Devices {
	ctx, cancel := context.WithCancel(context.Background())
	d := &Devices{t: t, nodes: nodes, ctx: ctx}
	t.Cleanup(func() { cancel(); d.ends.Wait() })
	return d
}

// Line starts a device that repeats each line after a while. It gives its address.
func (d *Devices) Line(name string, after time.Duration) string {
	return d.listen(name, func(in net.Conn, told func(string)) {
		for lines := bufio.NewScanner(in); lines.Scan(); {
			told(lines.Text())
			if after > 0 {
				time.Sleep(after)
			}
			if _, err := in.Write(append(lines.Bytes(), '\n')); err != nil {
				return
			}
		}
	})
}

// PJLink starts a simulated projector. It gives its address.
func (d *Devices) PJLink(name string) string {
	d.t.Helper()
	s, err := sim.New(sim.Options{Listen: "127.0.0.1:0", Name: name, WarmUp: -1, CoolDown: -1})
	if err != nil {
		d.t.Fatal(err)
	}
	d.ends.Go(func() { _ = s.Run(d.ctx) })
	return d.listen(name, func(in net.Conn, told func(string)) {
		out, err := net.Dial("tcp", s.Addrs()[0])
		if err != nil {
			return
		}
		defer out.Close()
		d.ends.Go(func() {
			_, _ = copyUntil(in, out)
			in.Close()
		})
		buf := make([]byte, 4096)
		var line []byte
		for {
			n, err := in.Read(buf)
			if n > 0 {
				line = append(line, buf[:n]...)
				for {
					text, rest, ok := bytes.Cut(line, []byte{'\r'})
					if !ok {
						break
					}
					told(string(text))
					line = rest
				}
				if _, err := out.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
}

func copyUntil(dst, src net.Conn) (int64, error) {
	buf := make([]byte, 4096)
	var sum int64
	for {
		n, err := src.Read(buf)
		if n > 0 {
			sum += int64(n)
			if _, err := dst.Write(buf[:n]); err != nil {
				return sum, err
			}
		}
		if err != nil {
			return sum, err
		}
	}
}

// listen serves each connection to a new address and notes it.
func (d *Devices) listen(name string, serve func(in net.Conn, told func(string))) string {
	d.t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	context.AfterFunc(d.ctx, func() { l.Close() })
	d.ends.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			d.ends.Go(func() { d.serve(name, in, serve) })
		}
	})
	return l.Addr().String()
}

func (d *Devices) serve(name string, in net.Conn, serve func(net.Conn, func(string))) {
	c := &journal.Conn{Device: name, Remote: in.RemoteAddr().String(), Opened: time.Now()}
	if d.nodes != nil {
		c.Node = nameOf(in, d.nodes())
	}
	d.mu.Lock()
	d.conns = append(d.conns, c)
	d.mu.Unlock()
	stop := context.AfterFunc(d.ctx, func() { in.Close() })
	defer stop()
	serve(in, func(text string) {
		d.mu.Lock()
		c.Writes = append(c.Writes, journal.Write{At: time.Now(), Text: text})
		d.mu.Unlock()
	})
	in.Close()
	d.mu.Lock()
	c.Closed = time.Now()
	d.mu.Unlock()
}

// Conns gives all connections so far.
func (d *Devices) Conns() []journal.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]journal.Conn, len(d.conns))
	for i, c := range d.conns {
		out[i] = *c
		out[i].Writes = c.Writes[:len(c.Writes):len(c.Writes)]
	}
	return out
}

// Writers gives, for each device that has a connection now, the node that holds it.
func (d *Devices) Writers() map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := map[string]string{}
	for _, c := range d.conns {
		if c.Closed.IsZero() {
			now[c.Device] = c.Node
		}
	}
	return now
}
