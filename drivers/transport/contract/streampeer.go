package contract

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// StreamPeer is a device that listens for connections of bytes, and speaks lines with the newest. It has its connections
// wrapped (for TLS, say) by Wrap.
type StreamPeer struct {
	t      *testing.T
	scheme string
	wrap   func(net.Conn) (net.Conn, error)
	addr   string
	lines  chan []byte

	mu       sync.Mutex
	changed  *sync.Cond
	listener net.Listener
	conns    []net.Conn
}

var _ Peer = (*StreamPeer)(nil)

// NewStreamPeer listens on loopback. wrap may be nil.
func NewStreamPeer(t *testing.T, scheme string, wrap func(net.Conn) (net.Conn, error)) *StreamPeer {
	p := &StreamPeer{t: t, scheme: scheme, wrap: wrap, addr: "127.0.0.1:0", lines: make(chan []byte, 1000)}
	p.changed = sync.NewCond(&p.mu)
	p.Up()
	t.Cleanup(p.Down)
	return p
}

// URI implements Peer.
func (p *StreamPeer) URI() string { return fmt.Sprintf("%s://%s", p.scheme, p.addr) }

// Up implements Peer.
func (p *StreamPeer) Up() {
	p.t.Helper()
	var l net.Listener
	eventually(p.t, "the address is free", func() bool {
		var err error
		l, err = net.Listen("tcp", p.addr)
		return err == nil
	})
	p.addr = l.Addr().String()
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	go p.accept(l)
}

func (p *StreamPeer) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go p.serve(c, l)
	}
}

func (p *StreamPeer) serve(c net.Conn, l net.Listener) {
	if p.wrap != nil {
		w, err := p.wrap(c)
		if err != nil {
			c.Close()
			return
		}
		c = w
	}
	p.mu.Lock()
	if p.listener != l { // it went down meanwhile
		p.mu.Unlock()
		c.Close()
		return
	}
	p.conns = append(p.conns, c)
	p.changed.Broadcast()
	p.mu.Unlock()
	in := bufio.NewReaderSize(c, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			p.forget(c)
			return
		}
		p.lines <- line
	}
}

func (p *StreamPeer) forget(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.conns {
		if p.conns[i] == c {
			p.conns = append(p.conns[:i], p.conns[i+1:]...)
			return
		}
	}
}

// Send implements Peer: to the newest connection, which it waits for. The twin's end may hang up meanwhile; a test that
// wants the frame misses it then.
func (p *StreamPeer) Send(frame []byte) {
	p.mu.Lock()
	for len(p.conns) == 0 {
		p.changed.Wait()
	}
	c := p.conns[len(p.conns)-1]
	p.mu.Unlock()
	_, err := c.Write(frame)
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		p.t.Errorf("the device sends: %v", err)
	}
}

// Received implements Peer.
func (p *StreamPeer) Received() []byte {
	p.t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-time.After(wait):
		p.t.Fatal("the device received nothing")
		return nil
	}
}

// Drop implements Peer.
func (p *StreamPeer) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// Down implements Peer.
func (p *StreamPeer) Down() {
	p.mu.Lock()
	l := p.listener
	p.listener = nil
	p.mu.Unlock()
	if l != nil {
		l.Close()
	}
	p.Drop()
}
