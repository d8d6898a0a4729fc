// Package udp carries a twin's datagrams: to one device, to a multicast group, or to everybody in a network. A datagram is
// a frame. Nothing tells whether a device is there: a twin counts as connected as long as it has its socket, or of a
// multicast group, once somebody was heard there.
package udp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/sockets"
	"github.com/polluxhq/pollux/drivers/transport"
)

// maxDatagram is the longest datagram that is heard, in bytes: above any network's usual packet, and small enough for
// thousands of twins. Longer ones are dropped.
const maxDatagram = 16 << 10

// Open opens udp://.
func Open(o transport.Options) (drivers.Conn, error) {
	t := &o.Binding.Transport
	a, err := transport.ParseAddress(o.Binding.URI, t)
	if err != nil {
		return nil, fmt.Errorf("open udp: %w", err)
	}
	opts := t.UDP
	if opts == nil {
		opts = &drivers.UDPOptions{}
	}
	peers := make([]netip.Prefix, 0, len(opts.Peers))
	for _, text := range opts.Peers {
		p, err := transport.ParseNetwork(text)
		if err != nil {
			return nil, fmt.Errorf("open udp %s: udp/peers: %w", a.HostPort(), err)
		}
		peers = append(peers, p)
	}
	reach := transport.ReachOf(&o, a)
	dial := func(ctx context.Context) (transport.Session, error) {
		ips, err := reach.Resolve(ctx, a.Host)
		if err != nil {
			return nil, err
		}
		s := &session{mayBroadcast: opts.Broadcast, device: netip.AddrPortFrom(ips[0], uint16(a.Port)), peers: peers, withPeer: opts.WithPeer,
			anybody: (opts.Broadcast || ips[0].IsMulticast()) && len(peers) == 0, buf: make([]byte, maxDatagram+1),
			tooLong: transport.Dropped(o.Metrics, t.Scheme, "size"), strangers: transport.Dropped(o.Metrics, t.Scheme, "sender")}
		if ips[0].IsMulticast() {
			s.grouped, s.echoes.seed = true, maphash.MakeSeed()
			return s, s.join(opts)
		}
		return s, s.listen(opts)
	}
	c, err := transport.Open(o, transport.Kind{Name: a.HostPort(), Dial: dial})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// session is a socket. It hears the device and the peers, and writes to those alone.
type session struct {
	conn     *net.UDPConn
	device   netip.AddrPort
	peers    []netip.Prefix
	withPeer bool
	// anybody in reach of the group or the broadcast may answer.
	anybody bool
	// mayBroadcast: the binding allows it.
	mayBroadcast bool
	// receive reads a datagram, of a group those to others are left out.
	receive func(buf []byte) (n int, from netip.AddrPort, ours bool, err error)
	buf     []byte
	framed  []byte
	closing sync.Once
	// grouped: the device is a multicast group. echoes is what was sent there lately, which comes back; heard: something else came.
	grouped, heard     bool
	echoes             echoes
	tooLong, strangers *metrics.Counter
}

// network of the device: an IPv6 socket that hears IPv4, too, would name senders otherwise than the binding does.
func (s *session) network() string {
	if s.device.Addr().Is4() {
		return "udp4"
	}
	return "udp6"
}

// listen opens the socket. Unless the binding allows it, the system sends no broadcasts from there: only the system knows which
// addresses of its networks are such.
func (s *session) listen(o *drivers.UDPOptions) error {
	lc := net.ListenConfig{Control: s.limit}
	pc, err := lc.ListenPacket(context.Background(), s.network(), fmt.Sprintf(":%d", o.LocalPort))
	if err != nil {
		return err
	}
	conn := pc.(*net.UDPConn)
	s.conn = conn
	s.receive = func(buf []byte) (int, netip.AddrPort, bool, error) {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		return n, from, true, err
	}
	return nil
}

// limit sets a socket up, before it is bound.
func (s *session) limit(network, address string, c syscall.RawConn) error {
	if err := sockets.Control(network, address, c); err != nil || s.mayBroadcast {
		return err
	}
	return noBroadcast(network, address, c)
}

// hears says whether a datagram's sender is the device or a peer.
func (s *session) hears(from netip.AddrPort) bool {
	ip := from.Addr()
	return s.anybody || ip.WithZone("") == s.device.Addr().WithZone("") || s.isPeer(ip)
}

func (s *session) isPeer(ip netip.Addr) bool {
	for _, p := range s.peers {
		if p.Contains(ip.WithZone("")) {
			return true
		}
	}
	return false
}

// Receive implements transport.Session.
func (s *session) Receive() ([]byte, error) {
	for {
		n, from, ours, err := s.receive(s.buf)
		if err != nil {
			return nil, err
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if !ours {
			continue
		}
		switch {
		case !s.hears(from):
			s.strangers.Inc()
			continue
		case n > maxDatagram:
			s.tooLong.Inc()
			continue
		}
		s.heard = s.heard || !s.grouped || !s.echoes.has(s.buf[:n])
		if !s.withPeer {
			return s.buf[:n], nil
		}
		s.framed = append(append(append(s.framed[:0], from.String()...), 0), s.buf[:n]...)
		return s.framed, nil
	}
}

// Send implements transport.Session. A datagram goes out whole or not at all.
func (s *session) Send(ctx context.Context, frame []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	to := s.device
	if s.withPeer {
		var err error
		if to, frame, err = s.target(frame); err != nil {
			return 0, err
		}
	}
	if s.grouped {
		s.echoes.add(frame)
	}
	n, err := s.conn.WriteToUDPAddrPort(frame, to)
	if errors.Is(err, syscall.EACCES) && !s.mayBroadcast {
		return 0, fmt.Errorf("%s is a broadcast address, which the driver's transport does not allow (udp/broadcast): %w", to.Addr(), drivers.ErrDenied)
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		err = fmt.Errorf("%w (%w)", err, transport.ErrKept) // the socket is as good as before
	}
	return n, err
}

// target takes the receiver's address off a frame.
func (s *session) target(frame []byte) (to netip.AddrPort, payload []byte, err error) {
	text, payload, found := bytes.Cut(frame, []byte{0})
	if !found {
		return to, nil, fmt.Errorf("a frame begins with ADDRESS:PORT and a zero byte: %w", drivers.ErrInvalid)
	}
	if len(text) == 0 {
		return s.device, payload, nil
	}
	to, err = ParseTarget(string(text), s.device.Port())
	if err != nil {
		return to, nil, err
	}
	if to.Addr() != s.device.Addr() && !s.isPeer(to.Addr()) {
		return to, nil, fmt.Errorf("%s is neither the device nor one of the transport's peers: %w", to, drivers.ErrDenied)
	}
	return to, payload, nil
}

// ParseTarget reads ADDRESS or ADDRESS:PORT.
func ParseTarget(text string, port uint16) (netip.AddrPort, error) {
	if to, err := netip.ParseAddrPort(text); err == nil {
		return netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), nil
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s is not ADDRESS:PORT: %w", strconv.Quote(text), drivers.ErrInvalid)
	}
	return netip.AddrPortFrom(ip.Unmap(), port), nil
}

// Silent implements transport.Quiet.
func (s *session) Silent() bool { return s.grouped && !s.heard }

// Close implements transport.Session.
func (s *session) Close() (err error) {
	s.closing.Do(func() { err = s.conn.Close() })
	return err
}
