package sockets

import (
	"net"
	"net/netip"
	"sync"
)

// Outgoing knows the connections that this process has made to its own machine for twins, sinks and the like. Whoever configures those chooses where they
// lead, and may have no more than a key of one project. A door that takes clients of this machine at their word must not take these. Safe for concurrent
// use. The nil Outgoing keeps none.
type Outgoing struct {
	mu  sync.Mutex
	all map[ends]struct{}
}

// ends of a connection, as who made it sees them.
type ends struct{ local, remote netip.AddrPort }

// NewOutgoing makes one that knows none yet.
func NewOutgoing() *Outgoing { return &Outgoing{all: map[ends]struct{}{}} }

// Keep notes a connection until it is closed, if it leads to this machine; call it before anything is sent. Use what it gives instead.
func (o *Outgoing) Keep(conn net.Conn) net.Conn {
	if o == nil {
		return conn
	}
	e, ok := endsOf(conn.LocalAddr(), conn.RemoteAddr())
	if !ok || !e.remote.Addr().IsLoopback() && e.remote.Addr() != e.local.Addr() {
		return conn
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all[e] = struct{}{}
	return &noted{Conn: conn, of: o, ends: e}
}

// Made says whether this process has made the other end of a connection that a door accepted.
func (o *Outgoing) Made(accepted net.Conn) bool {
	if o == nil {
		return false
	}
	e, ok := endsOf(accepted.RemoteAddr(), accepted.LocalAddr())
	o.mu.Lock()
	defer o.mu.Unlock()
	_, made := o.all[e]
	return ok && made
}

func endsOf(local, remote net.Addr) (ends, bool) {
	l, okL := local.(*net.TCPAddr)
	r, okR := remote.(*net.TCPAddr)
	if !okL || !okR {
		return ends{}, false
	}
	plain := func(a *net.TCPAddr) netip.AddrPort {
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
	}
	return ends{plain(l), plain(r)}, true
}

// noted is a connection that its Outgoing knows.
type noted struct {
	net.Conn
	of   *Outgoing
	ends ends
	once sync.Once
}

// Close forgets the connection before its port can be another's.
func (k *noted) Close() error {
	k.once.Do(func() {
		k.of.mu.Lock()
		defer k.of.mu.Unlock()
		delete(k.of.all, k.ends)
	})
	return k.Conn.Close()
}
