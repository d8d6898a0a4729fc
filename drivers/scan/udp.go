package scan

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// datagrams speak by UDP, from one socket.
type datagrams struct {
	run  *run
	conn *net.UDPConn
	own  map[netip.Addr]bool
	port uint16
	all  netip.AddrPort // whom a frame without an address goes to
	wait sync.WaitGroup
}

func newUDP(_ context.Context, r *run) (*datagrams, error) {
	network := r.o.Network
	kind := "udp6"
	if network.Addr().Is4() {
		kind = "udp4"
	}
	conn, err := net.ListenUDP(kind, &net.UDPAddr{Port: r.o.Scan.LocalPort})
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	d := &datagrams{run: r, conn: conn, own: map[netip.Addr]bool{}}
	if at, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		d.port = uint16(at.Port)
	}
	iface := d.look(network)
	to := lastOf(network)
	if r.o.Scan.Group != "" {
		to, _ = netip.ParseAddr(r.o.Scan.Group) // was checked with the manifest
		if err := multicastBy(conn, to, iface); err != nil {
			r.note("multicast: " + err.Error())
		}
	}
	d.all = netip.AddrPortFrom(to, uint16(r.o.Scan.Port))
	d.wait.Go(d.read)
	return d, nil
}

// look finds this node's own addresses, and its interface to the network.
func (d *datagrams) look(network netip.Prefix) (iface *net.Interface) {
	all, _ := net.Interfaces() // without them the system chooses
	for i := range all {
		addrs, _ := all[i].Addrs()
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			d.own[p.Addr().Unmap()] = true
			if network.Overlaps(p.Masked()) && iface == nil {
				iface = &all[i]
			}
		}
	}
	return iface
}

func multicastBy(conn *net.UDPConn, group netip.Addr, iface *net.Interface) error {
	if iface == nil {
		return nil
	}
	if group.Is4() {
		return ipv4.NewPacketConn(conn).SetMulticastInterface(iface)
	}
	return ipv6.NewPacketConn(conn).SetMulticastInterface(iface)
}

// lastOf gives a network's broadcast address, or the one address that it has.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

func (d *datagrams) send(_ context.Context, to netip.AddrPort, payload []byte) error {
	if !to.IsValid() {
		to = d.all
	}
	_, err := d.conn.WriteToUDPAddrPort(payload, to)
	if err != nil {
		d.run.note("send to " + to.String() + ": " + err.Error())
	}
	return err
}

func (d *datagrams) read() {
	buf := make([]byte, 16<<10)
	for {
		n, from, err := d.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
		if !d.run.o.Network.Contains(from.Addr()) || d.own[from.Addr()] && from.Port() == d.port {
			continue // of somebody else, or this node's own broadcast
		}
		d.run.offer(answer{from, bytes.Clone(buf[:n])})
	}
}

func (d *datagrams) begun() {}

func (d *datagrams) done() <-chan struct{} { return nil }

func (d *datagrams) close() {
	_ = d.conn.Close()
	d.wait.Wait()
}
