package inbound

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/udp"
)

const (
	// maxDatagram as in package udp.
	maxDatagram = 16 << 10
	// udpQueue datagrams of a twin wait; then new ones are dropped, and counted.
	udpQueue = 256
	// udpIdle ends the link of a twin whose devices said nothing for so long.
	udpIdle = 5 * time.Minute
)

func (a *Acceptor) serveUDP(p *port, conn *net.UDPConn) {
	strangers := transport.Dropped(a.o.Metrics, drivers.SchemeUDPIn, "sender")
	full := transport.Dropped(a.o.Metrics, drivers.SchemeUDPIn, "full")
	tooLong := transport.Dropped(a.o.Metrics, drivers.SchemeUDPIn, "size")
	buf := make([]byte, maxDatagram+1)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		t, ok := p.find(from.Addr())
		switch {
		case !ok:
			strangers.Inc()
			continue
		case n > maxDatagram:
			tooLong.Inc()
			continue
		}
		g := a.group(t, conn)
		if g == nil {
			continue
		}
		g.remote.Store(&from)
		frame := bytes.Clone(buf[:n])
		if g.withPeer {
			frame = append(append([]byte(from.String()), 0), buf[:n]...)
		}
		select {
		case g.queue <- frame:
		default:
			full.Inc()
		}
	}
}

// group gives the link of a twin's datagrams, made anew where there is none.
func (a *Acceptor) group(t Twin, conn *net.UDPConn) *datagrams {
	a.mu.Lock()
	g, ok := a.links[a.byTwin[t.ID]].(*datagrams)
	a.mu.Unlock()
	if ok && !g.ended.Load() && g.conn == conn { // the twin's port before this one may not be closed yet
		return g
	}
	g = &datagrams{a: a, t: t, conn: conn, queue: make(chan []byte, udpQueue), stop: make(chan struct{}),
		withPeer: t.Options.UDP != nil && t.Options.UDP.WithPeer, idle: udpIdle}
	if t.Options.IdleTimeoutMS > 0 {
		g.idle = time.Duration(t.Options.IdleTimeoutMS) * time.Millisecond
	}
	if g.number, ok = a.add(g); !ok {
		return nil
	}
	a.wait.Go(g.run)
	return g
}

// datagrams are what a twin's devices send to a port.
type datagrams struct {
	a        *Acceptor
	t        Twin
	conn     *net.UDPConn
	number   uint64
	withPeer bool
	idle     time.Duration
	queue    chan []byte
	remote   atomic.Pointer[netip.AddrPort] // who spoke last
	node     atomic.Value

	ending sync.Once
	ended  atomic.Bool
	stop   chan struct{}
	why    string
}

func (g *datagrams) twin() string         { return g.t.ID }
func (g *datagrams) owner() *atomic.Value { return &g.node }

func (g *datagrams) end(why string) {
	g.ending.Do(func() {
		g.why = why
		g.ended.Store(true)
		close(g.stop)
	})
}

// write answers whoever spoke last, or with peers whom the frame names.
func (g *datagrams) write(frame []byte) error {
	to := g.remote.Load()
	if g.withPeer {
		text, payload, found := bytes.Cut(frame, []byte{0})
		if !found {
			return fmt.Errorf("a frame begins with ADDRESS:PORT and a zero byte: %w", drivers.ErrInvalid)
		}
		frame = payload
		if len(text) > 0 {
			named, err := udp.ParseTarget(string(text), to.Port())
			if err != nil {
				return err
			}
			if !g.mayHave(named.Addr()) {
				return fmt.Errorf("%s is none of the addresses that the twin's device may have: %w", named, drivers.ErrDenied)
			}
			to = &named
		}
	}
	_, err := g.conn.WriteToUDPAddrPort(frame, *to)
	return err
}

func (g *datagrams) mayHave(ip netip.Addr) bool {
	for _, p := range g.t.From {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

func (g *datagrams) run() {
	defer g.a.remove(g.number, g)
	d := newDelivery(g.a, &g.t, g.number, g.remoteText(), &g.node)
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	heard := time.Now()
	for {
		var frames [][]byte
		select {
		case f := <-g.queue:
			heard = time.Now()
			frames = append(frames, f)
		case <-tick.C:
			if time.Since(heard) > g.idle {
				g.end(transport.ErrIdle.Error())
			}
		case <-g.stop:
			for len(g.queue) > 0 {
				d.kept = append(d.kept, <-g.queue)
			}
			d.closed(g.why)
			return
		}
		for more := true; more && len(frames) < maxBatch && len(frames) > 0; {
			select {
			case f := <-g.queue:
				frames = append(frames, f)
			default:
				more = false
			}
		}
		d.remote = g.remoteText()
		if err := d.send(frames); err != nil {
			g.end(err.Error())
		}
	}
}

func (g *datagrams) remoteText() string {
	if r := g.remote.Load(); r != nil {
		return r.String()
	}
	return ""
}
