package harness

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Network stands between the nodes of a cluster: each node advertises an address of the relay, which passes on what other
// nodes send there, TCP and UDP, unless the way from the one to the other is cut. So links can be cut in each direction
// without rights that a container does not give. Clients and devices do not go through it.
//
// A cut TCP connection stays open and silent, as when packets are lost; what was sent meanwhile arrives after Heal. UDP is
// lost.
type Network struct {
	t     testing.TB
	nodes func() []*Node

	mu      sync.Mutex
	changed chan struct{} // closed at each change of cut
	cut     map[[2]string]bool
	closed  chan struct{}
	closers []io.Closer
	sockets map[string]*net.UDPConn // by name of the node whose address it is
	wg      sync.WaitGroup
	passed  atomic.Uint64 // bytes
}

func newNetwork(t testing.TB, nodes func() []*Node) *Network {
	n := &Network{t: t, nodes: nodes, cut: map[[2]string]bool{}, changed: make(chan struct{}), closed: make(chan struct{}),
		sockets: map[string]*net.UDPConn{}}
	t.Cleanup(n.close)
	return n
}

func (n *Network) close() {
	close(n.closed)
	n.mu.Lock()
	all := n.closers
	n.closers = nil
	n.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
	n.wg.Wait()
}

// keep closes c with the network, at once where that is closed already.
func (n *Network) keep(c io.Closer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.closed:
		c.Close()
	default:
		n.closers = append(n.closers, c)
	}
}

func (n *Network) forget(c io.Closer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closers = slices.DeleteFunc(n.closers, func(o io.Closer) bool { return o == c })
}

// Cut ends the way from one node to another, by name; the way back stays.
func (n *Network) Cut(from, to string) { n.set([2]string{from, to}, true) }

// Isolate cuts a node from all others, in both directions.
func (n *Network) Isolate(name string) {
	for _, o := range n.nodes() {
		if o.Name != name {
			n.Cut(name, o.Name)
			n.Cut(o.Name, name)
		}
	}
}

// Heal opens all ways.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	n.tell()
}

func (n *Network) set(way [2]string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[way] = cut
	n.tell()
}

func (n *Network) tell() {
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *Network) isCut(from, to string) (bool, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[[2]string{from, to}], n.changed
}

// pass waits until the way is open; false where the network closes first.
func (n *Network) pass(from, to string) bool {
	for {
		cut, changed := n.isCut(from, to)
		if !cut {
			return true
		}
		select {
		case <-changed:
		case <-n.closed:
			return false
		}
	}
}

// serve takes what is for a node at its public addresses on to where it listens.
func (n *Network) serve(name, public, private string, tcpPorts []int, gossip int) error {
	for _, port := range tcpPorts {
		l, err := net.Listen("tcp4", join(public, port))
		if err != nil {
			return err
		}
		n.keep(l)
		n.wg.Go(func() { n.accept(l, name, join(private, port)) })
	}
	at := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(join(public, gossip)))
	s, err := net.ListenUDP("udp4", at)
	if err != nil {
		return err
	}
	n.keep(s)
	n.mu.Lock()
	n.sockets[name] = s
	n.mu.Unlock()
	to := netip.MustParseAddrPort(join(private, gossip))
	n.wg.Go(func() { n.packets(s, name, to) })
	return nil
}

func (n *Network) accept(l net.Listener, to, addr string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		n.wg.Go(func() {
			n.keep(c)
			defer n.forget(c)
			defer c.Close()
			n.relay(c.(*net.TCPConn), to, addr)
		})
	}
}

// relay joins two connections until both directions have ended.
func (n *Network) relay(in *net.TCPConn, to, addr string) {
	from := n.nameOf(in)
	if !n.pass(from, to) {
		return
	}
	c, err := net.DialTimeout("tcp4", addr, 5*time.Second)
	if err != nil {
		in.SetLinger(0)
		return
	}
	out := c.(*net.TCPConn)
	n.keep(out)
	defer n.forget(out)
	defer out.Close()
	var both sync.WaitGroup
	both.Go(func() { n.pump(out, in, from, to) })
	n.pump(in, out, to, from)
	both.Wait()
}

// pump copies one direction. Its end ends the other side's reading, an error ends both.
func (n *Network) pump(dst, src *net.TCPConn, from, to string) {
	buf := make([]byte, 64<<10)
	for {
		k, err := src.Read(buf)
		if k > 0 {
			n.passed.Add(uint64(k))
			if !n.pass(from, to) {
				return
			}
			if _, err := dst.Write(buf[:k]); err != nil {
				src.Close()
				return
			}
		}
		if err == io.EOF {
			if n.pass(from, to) {
				dst.CloseWrite()
			}
			return
		}
		if err != nil {
			if n.pass(from, to) {
				dst.SetLinger(0)
				dst.Close()
			}
			return
		}
	}
}

// packets takes datagrams to a node. They come from the socket of the node that sent them, as they came from its address.
func (n *Network) packets(s *net.UDPConn, to string, addr netip.AddrPort) {
	buf := make([]byte, 64<<10)
	for {
		k, sender, err := s.ReadFromUDPAddrPort(buf)
		if err != nil {
			select {
			case <-n.closed:
				return
			default:
				continue
			}
		}
		from := ""
		for _, o := range n.nodes() {
			if o.private == sender.Addr().Unmap().String() {
				from = o.Name
			}
		}
		n.mu.Lock()
		out, cut := n.sockets[from], n.cut[[2]string{from, to}]
		n.mu.Unlock()
		if out == nil {
			out = s // a stranger's
		}
		if !cut {
			_, _ = out.WriteToUDPAddrPort(buf[:k], addr)
		}
	}
}

// nameOf tells which node made a connection that was accepted here; "" where none did.
func (n *Network) nameOf(c net.Conn) string { return nameOf(c, n.nodes()) }

func nameOf(c net.Conn, nodes []*Node) string {
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return ""
	}
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return ""
	}
	pids := make([]int, 0, len(nodes))
	for _, o := range nodes {
		pids = append(pids, o.PID())
	}
	if pid := ownerOf(remote, local, pids); pid != 0 {
		return nodes[slices.Index(pids, pid)].Name
	}
	return ""
}

func join(host string, port int) string { return fmt.Sprintf("%s:%d", host, port) }

// Balancer is one address for all nodes: what connects there is passed to a node that takes connections, the next one for
// each. It is for clients with one address, such as MQTT devices.
func Balancer(t testing.TB, targets func() []string) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close() })
	var turn atomic.Uint64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go balance(ctx, c, targets(), int(turn.Add(1)))
		}
	}()
	return l.Addr().String()
}

func balance(ctx context.Context, in net.Conn, targets []string, turn int) {
	defer in.Close()
	for i := range targets {
		out, err := net.DialTimeout("tcp4", targets[(turn+i)%len(targets)], time.Second)
		if err != nil {
			continue
		}
		defer out.Close()
		stop := context.AfterFunc(ctx, func() { in.Close(); out.Close() })
		defer stop()
		go func() {
			_, _ = io.Copy(out, in)
			out.Close()
		}()
		_, _ = io.Copy(in, out)
		return
	}
}
