// Package announce has simulated devices found: by multicast DNS (RFC 6762) and by SSDP (UPnP Device Architecture). It shares
// no code with the drivers that look for them, so that one can tell when the other is wrong.
package announce

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/ipv4"

	"github.com/polluxhq/pollux/drivers/udp"
)

// Answer gives what is said to a question, and whether everybody is told; nil: nothing.
type Answer func(question []byte, from netip.AddrPort) (said []byte, toAll bool)

// Responder answers questions at an address, and where that has the port of a group those to the group, too.
type Responder struct {
	answer Answer
	group  netip.AddrPort
	own    *net.UDPConn
	hears  *net.UDPConn // the group; nil: not
}

// Listen opens the sockets of a responder; nothing is answered before Run. at is an IPv4 address and port of this machine,
// whose interface is the one on which the group is heard.
func Listen(at string, group netip.AddrPort, answer Answer) (*Responder, error) {
	own, err := netip.ParseAddrPort(at)
	if err != nil || !own.Addr().Is4() {
		return nil, fmt.Errorf("announce: %q is no IPv4 address and port", at)
	}
	r := &Responder{answer: answer, group: group}
	lc := net.ListenConfig{Control: udp.ShareAddress}
	pc, err := lc.ListenPacket(context.Background(), "udp4", at)
	if err != nil {
		return nil, fmt.Errorf("announce: %w", err)
	}
	r.own = pc.(*net.UDPConn)
	if own.Port() != group.Port() {
		return r, nil
	}
	iface, err := interfaceOf(own.Addr())
	if err == nil {
		err = errors.Join(ipv4.NewPacketConn(r.own).SetMulticastInterface(iface), ipv4.NewPacketConn(r.own).SetMulticastTTL(255))
	}
	if err == nil {
		pc, err = lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", group.Port()))
	}
	if err != nil {
		_ = r.own.Close()
		return nil, fmt.Errorf("announce: %w", err)
	}
	r.hears = pc.(*net.UDPConn)
	if err := ipv4.NewPacketConn(r.hears).JoinGroup(iface, net.UDPAddrFromAddrPort(group)); err != nil {
		return nil, errors.Join(fmt.Errorf("announce: join %s at %s: %w", group.Addr(), iface.Name, err), r.own.Close(), r.hears.Close())
	}
	return r, nil
}

func interfaceOf(own netip.Addr) (*net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for i := range all {
		addrs, _ := all[i].Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Contains(own) {
				return &all[i], nil
			}
		}
	}
	return nil, fmt.Errorf("no interface has %s", own)
}

// Addr is where it listens itself.
func (r *Responder) Addr() string { return r.own.LocalAddr().String() }

// Run answers until ctx ends, then closes all.
func (r *Responder) Run(ctx context.Context) {
	defer context.AfterFunc(ctx, r.close)()
	var wg sync.WaitGroup
	if r.hears != nil {
		wg.Go(func() { r.read(r.hears) })
	}
	r.read(r.own)
	r.close()
	wg.Wait()
}

func (r *Responder) close() {
	_ = r.own.Close()
	if r.hears != nil {
		_ = r.hears.Close()
	}
}

// read answers what comes in at a socket, from the responder's own.
func (r *Responder) read(c *net.UDPConn) {
	for buf := make([]byte, 9000); ; {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		said, toAll := r.answer(buf[:n], from)
		if said == nil {
			continue
		}
		if toAll && r.hears != nil {
			from = r.group
		}
		_, _ = r.own.WriteToUDPAddrPort(said, from)
	}
}
