package udp

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/polluxhq/pollux/drivers"
)

// join has the session hear a multicast group, at the group's port, and send to it. Several twins of a node may be in one
// group. Datagrams to other groups that this node is in are left out.
func (s *session) join(o *drivers.UDPOptions) error {
	var iface *net.Interface
	if o.Interface != "" {
		var err error
		if iface, err = net.InterfaceByName(o.Interface); err != nil {
			return fmt.Errorf("udp/interface %q: %w", o.Interface, err)
		}
	}
	port := o.LocalPort
	if port == 0 {
		port = int(s.device.Port())
	}
	lc := net.ListenConfig{Control: func(network, address string, c syscall.RawConn) error {
		return errors.Join(ShareAddress(network, address, c), s.limit(network, address, c))
	}}
	pc, err := lc.ListenPacket(context.Background(), s.network(), fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	s.conn = pc.(*net.UDPConn)
	ttl := max(o.TTL, 1)
	if s.device.Addr().Is4() {
		err = s.join4(iface, ttl)
	} else {
		err = s.join6(iface, ttl)
	}
	if err != nil {
		_ = s.conn.Close()
		return fmt.Errorf("join %s: %w", s.device.Addr(), err)
	}
	return nil
}

func (s *session) join4(iface *net.Interface, ttl int) error {
	p := ipv4.NewPacketConn(s.conn)
	group := net.UDPAddrFromAddrPort(s.device)
	for _, err := range []error{p.JoinGroup(iface, group), p.SetMulticastTTL(ttl), p.SetMulticastLoopback(true), p.SetControlMessage(ipv4.FlagDst, true)} {
		if err != nil {
			return err
		}
	}
	if iface != nil {
		if err := p.SetMulticastInterface(iface); err != nil {
			return err
		}
	}
	s.receive = func(buf []byte) (int, netip.AddrPort, bool, error) {
		n, cm, from, err := p.ReadFrom(buf)
		if err != nil {
			return 0, netip.AddrPort{}, false, err
		}
		return n, from.(*net.UDPAddr).AddrPort(), cm == nil || s.meant(cm.Dst), nil
	}
	return nil
}

func (s *session) join6(iface *net.Interface, ttl int) error {
	p := ipv6.NewPacketConn(s.conn)
	group := net.UDPAddrFromAddrPort(s.device)
	for _, err := range []error{p.JoinGroup(iface, group), p.SetMulticastHopLimit(ttl), p.SetMulticastLoopback(true), p.SetControlMessage(ipv6.FlagDst, true)} {
		if err != nil {
			return err
		}
	}
	if iface != nil {
		if err := p.SetMulticastInterface(iface); err != nil {
			return err
		}
	}
	s.receive = func(buf []byte) (int, netip.AddrPort, bool, error) {
		n, cm, from, err := p.ReadFrom(buf)
		if err != nil {
			return 0, netip.AddrPort{}, false, err
		}
		return n, from.(*net.UDPAddr).AddrPort(), cm == nil || s.meant(cm.Dst), nil
	}
	return nil
}

// meant says whether a datagram to dst is the session's: to its group, or to this node itself.
func (s *session) meant(dst net.IP) bool {
	ip, ok := netip.AddrFromSlice(dst)
	return !ok || !ip.Unmap().IsMulticast() || ip.Unmap() == s.device.Addr().WithZone("")
}

// echoes remembers what was sent lately, by its hash. Safe for concurrent use.
type echoes struct {
	seed maphash.Seed
	mu   sync.Mutex
	sums [16]uint64
	next int
}

func (e *echoes) add(datagram []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sums[e.next%len(e.sums)] = maphash.Bytes(e.seed, datagram)
	e.next++
}

func (e *echoes) has(datagram []byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.sums[:min(e.next, len(e.sums))], maphash.Bytes(e.seed, datagram))
}
