package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/polluxhq/pollux/drivers/udp"
)

// maxEchoes bounds what is remembered of frames to everybody, which come back to this node, too.
const maxEchoes = 64

// localHops is the hop limit of what is sent to a group that no router passes on (RFC 6762, section 11); other groups
// keep the system's, one.
const localHops = 255

// datagrams speak by UDP, from one socket.
type datagrams struct {
	run  *run
	conn *net.UDPConn
	own  map[netip.Addr]bool
	port uint16
	all  netip.AddrPort // whom a frame without an address goes to
	// toAll sends to the group, from this node's address in the network; where the network is one address, to that too,
	// because a group ends at the next router.
	toAll func(payload []byte) error
	wait  sync.WaitGroup

	mu     sync.Mutex
	echoes map[string]bool // what was sent to all
}

func newUDP(ctx context.Context, r *run) (*datagrams, error) {
	network, how := r.o.Network, r.o.Scan
	d := &datagrams{run: r, own: map[netip.Addr]bool{}, echoes: map[string]bool{}}
	to := lastOf(network)
	if how.Group != "" {
		to, _ = netip.ParseAddr(how.Group) // was checked with the manifest
		if to.Is4() != network.Addr().Is4() {
			return nil, fmt.Errorf("scan: network %s: devices are asked by the group %s: want a network of that kind of address", network, to)
		}
	}
	d.all = netip.AddrPortFrom(to, uint16(how.Port))
	if err := d.listen(ctx); err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	if at, ok := d.conn.LocalAddr().(*net.UDPAddr); ok {
		d.port = uint16(at.Port)
	}
	d.toAll = func(payload []byte) error {
		_, err := d.conn.WriteToUDPAddrPort(payload, d.all)
		return err
	}
	iface, own := d.look(network)
	if to.IsMulticast() {
		if err := d.multicast(to, iface, own); err != nil {
			r.note("multicast: " + err.Error())
		}
		if network.IsSingleIP() {
			d.askOne(netip.AddrPortFrom(network.Addr(), d.all.Port()))
		}
	}
	d.wait.Go(d.read)
	return d, nil
}

// hearsGroup says whether devices answer to the group: they do where the questions come from the group's own port, which
// this node then shares with whoever else hears it there.
func (d *datagrams) hearsGroup() bool {
	return d.run.o.Scan.Group != "" && d.run.o.Scan.LocalPort == d.run.o.Scan.Port
}

// listen takes the port that the manifest wants, or any where it is taken: most devices answer whoever asks.
func (d *datagrams) listen(ctx context.Context) error {
	kind := "udp6"
	if d.run.o.Network.Addr().Is4() {
		kind = "udp4"
	}
	lc := net.ListenConfig{}
	if d.hearsGroup() {
		lc.Control = udp.ShareAddress
	}
	port := d.run.o.Scan.LocalPort
	pc, err := lc.ListenPacket(ctx, kind, fmt.Sprintf(":%d", port))
	if err != nil && port != 0 && errors.Is(err, syscall.EADDRINUSE) {
		d.run.note(fmt.Sprintf("port %d is taken on this node: devices that answer to no other are not heard", port))
		pc, err = net.ListenPacket(kind, ":0")
	}
	if err != nil {
		return err
	}
	d.conn = pc.(*net.UDPConn)
	return nil
}

// look finds this node's own addresses, and its interface to the network with the address that it has there.
func (d *datagrams) look(network netip.Prefix) (iface *net.Interface, own netip.Addr) {
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
				iface, own = &all[i], p.Addr().Unmap()
			}
		}
	}
	return iface, own
}

// multicast has the group spoken to in the network, and heard where devices answer there.
func (d *datagrams) multicast(group netip.Addr, iface *net.Interface, own netip.Addr) error {
	at := net.UDPAddrFromAddrPort(d.all)
	index := 0
	if iface != nil {
		index = iface.Index
	}
	var join func(*net.Interface, net.Addr) error
	var hops func(int) error
	if group.Is4() {
		p := ipv4.NewPacketConn(d.conn)
		join, hops = p.JoinGroup, p.SetMulticastTTL
		d.toAll = func(payload []byte) error {
			_, err := p.WriteTo(payload, &ipv4.ControlMessage{IfIndex: index, Src: own.AsSlice()}, at)
			return err
		}
	} else {
		p := ipv6.NewPacketConn(d.conn)
		join, hops = p.JoinGroup, p.SetMulticastHopLimit
		d.toAll = func(payload []byte) error {
			_, err := p.WriteTo(payload, &ipv6.ControlMessage{IfIndex: index}, at)
			return err
		}
	}
	var errs []error
	if group.IsLinkLocalMulticast() {
		errs = append(errs, hops(localHops))
	}
	if d.hearsGroup() {
		errs = append(errs, join(iface, at))
	}
	return errors.Join(errs...)
}

// askOne has one device asked itself, beside the group. Whichever of the two cannot be sent is of no matter where the other can.
func (d *datagrams) askOne(at netip.AddrPort) {
	toGroup := d.toAll
	d.toAll = func(payload []byte) error {
		_, err := d.conn.WriteToUDPAddrPort(payload, at)
		if groupErr := toGroup(payload); err != nil {
			return errors.Join(err, groupErr)
		}
		return nil
	}
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

func (d *datagrams) send(_ context.Context, to netip.AddrPort, payload []byte) (err error) {
	if to.IsValid() {
		_, err = d.conn.WriteToUDPAddrPort(payload, to)
	} else {
		to = d.all
		d.mu.Lock()
		if len(d.echoes) < maxEchoes {
			d.echoes[string(payload)] = true
		}
		d.mu.Unlock()
		err = d.toAll(payload)
	}
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
		if !d.run.o.Network.Contains(from.Addr()) || d.isEcho(from, buf[:n]) {
			continue
		}
		d.run.offer(answer{from, bytes.Clone(buf[:n])})
	}
}

// isEcho says whether a datagram is this node's own, as it was sent to everybody.
func (d *datagrams) isEcho(from netip.AddrPort, datagram []byte) bool {
	if from.Port() != d.port || !d.own[from.Addr()] {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.echoes[string(datagram)]
}

func (d *datagrams) begun() {}

func (d *datagrams) done() <-chan struct{} { return nil }

func (d *datagrams) close() {
	_ = d.conn.Close()
	d.wait.Wait()
}
