package peer

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// raftLayer is raft's part of the peer port: plain connections under mutual TLS.
type raftLayer struct {
	p        *Peers
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func newRaftLayer(p *Peers) *raftLayer {
	return &raftLayer{p: p, accepted: make(chan net.Conn, 16), closed: make(chan struct{})}
}

// RaftLayer gives raft's connections; it is the same one at each call. An address is the host:port of a peer port. Closing it
// leaves the rest of the peers alone.
func (p *Peers) RaftLayer() raft.StreamLayer { return p.raft }

// Accept blocks until a node connects for raft, or Close.
func (r *raftLayer) Accept() (net.Conn, error) {
	select {
	case c := <-r.accepted:
		return c, nil
	case <-r.closed:
		return nil, net.ErrClosed
	}
}

// Close refuses what comes from now on.
func (r *raftLayer) Close() error {
	r.once.Do(func() { close(r.closed) })
	return nil
}

// Addr is the address of the peer port.
func (r *raftLayer) Addr() net.Addr { return r.p.Addr() }

// Dial connects to whichever node of this cluster listens at address; timeout is for everything until it says welcome.
func (r *raftLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return r.DialNode("", string(address), timeout)
}

// DialNode connects to one node and no other: addresses change hands, and a vote must not be counted twice.
func (r *raftLayer) DialNode(node, address string, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 {
		timeout = r.p.o.DialTimeout
	}
	ctx, cancel := context.WithTimeout(r.p.ctx, timeout)
	defer cancel()
	conn, err := r.p.dialTLS(ctx, address, node, protoRaft)
	if err != nil {
		return nil, fmt.Errorf("dial raft at %s: %w", address, err)
	}
	conn.SetDeadline(time.Now().Add(timeout))
	why, err := readWelcome(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("dial raft at %s: %w", address, err)
	}
	if why != "" {
		conn.Close()
		return nil, fmt.Errorf("dial raft at %s: %w: %s", address, ErrRefused, why)
	}
	conn.SetDeadline(time.Time{})
	return conn, nil
}

// A raft connection begins with the length, two bytes, of the reason why it is refused; 0 is welcome.
func writeWelcome(w io.Writer, why string) error {
	why = why[:min(len(why), maxErrorText)]
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(why))), why...))
	return err
}

func readWelcome(r io.Reader) (why string, err error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", err
	}
	b := make([]byte, min(int(binary.BigEndian.Uint16(n[:])), maxErrorText))
	if _, err := io.ReadFull(r, b); err != nil {
		return "", err
	}
	return string(b), nil
}

// raftConn is a serverConn as raft sees it.
type raftConn struct {
	net.Conn
	c *serverConn
}

func (c raftConn) Close() error {
	c.c.close()
	return nil
}

// serveRaft hands a connection over, and keeps it known until it is closed.
func (c *serverConn) serveRaft(refused error) {
	c.conn.SetDeadline(time.Now().Add(c.p.handshakeTimeout()))
	if refused != nil {
		writeWelcome(c.conn, refused.Error())
		return
	}
	if err := writeWelcome(c.conn, ""); err != nil {
		return
	}
	c.conn.SetDeadline(time.Time{})
	select {
	case c.p.raft.accepted <- raftConn{c.conn, c}:
		<-c.closed
	case <-c.p.raft.closed:
	case <-time.After(c.p.handshakeTimeout()): // raft does not accept
	}
}
