package transport

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/sockets"
)

// Reach says which addresses a twin's connections may go to, and dials those. A host that is written as an address is
// allowed as it is: whoever wrote it meant it. A name has to stand for a public address, unless the binding allows private
// ones: names belong to others, who may have them lead into the node's own network at any time. So what is checked is
// what is dialled.
type Reach struct {
	// Private: names may stand for private addresses.
	Private bool
	// Lookup gives the addresses of a name; nil: the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Outgoing is told of connections to this machine; nil: nobody is.
	Outgoing *sockets.Outgoing
}

var (
	limitedBroadcast = netip.MustParseAddr("255.255.255.255")
	// unicast is all of IPv6 that is given out as public addresses; of the rest, only what embeds IPv4 leads there.
	unicast = netip.MustParsePrefix("2000::/3")
	// special are the networks of IPv4, and of unicast, that are neither public nor what netip calls private: those that
	// IANA's registries of special-purpose addresses do not call globally reachable, and all of 2001::/23, in which only
	// services of the network itself are (Teredo's addresses among them, which hold others).
	special = prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20")
	// embedding are the networks whose addresses hold an IPv4 address, with the byte at which it begins.
	embedding = map[netip.Prefix]int{netip.MustParsePrefix("64:ff9b::/96"): 12, netip.MustParsePrefix("2002::/16"): 2}
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

// Public says whether an address is one of the Internet at large: not private, loopback, link-local, shared, multicast
// or reserved (IANA's special-purpose registries, RFC 6890), also not by way of an IPv6 address that holds it.
func Public(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
		return false
	}
	for _, p := range special {
		if p.Contains(ip) {
			return false
		}
	}
	for p, at := range embedding {
		if p.Contains(ip) {
			b := ip.As16()
			return Public(netip.AddrFrom4([4]byte(b[at : at+4])))
		}
	}
	return ip.Is4() || unicast.Contains(ip)
}

// kindOf names what is not public, for messages.
func kindOf(ip netip.Addr) string {
	switch ip = ip.Unmap(); {
	case ip.IsLoopback():
		return "loopback"
	case ip.IsLinkLocalUnicast():
		return "link-local"
	case ip.IsMulticast():
		return "multicast"
	case ip.IsPrivate():
		return "private"
	}
	return "reserved"
}

// Resolve gives the addresses of a host that may be reached, or an error that says why none may (drivers.ErrDenied) or
// that there are none.
func (r *Reach) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") { // a name that always means this (RFC 6761)
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	lookup := r.Lookup
	if lookup == nil {
		lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	all, err := lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var allowed []netip.Addr
	var refused netip.Addr
	for _, ip := range all {
		if ip = ip.Unmap(); ip.IsUnspecified() || ip.IsMulticast() || !r.Private && !Public(ip) {
			refused = ip
			continue
		}
		allowed = append(allowed, ip)
	}
	switch {
	case len(allowed) > 0:
		return allowed, nil
	case refused.IsValid():
		return nil, fmt.Errorf("%s stands for %s, a %s address: write the address itself, or end the twin's address with #private: %w",
			host, refused, kindOf(refused), drivers.ErrDenied)
	}
	return nil, &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
}

// Dial connects to host:port by tcp or udp, to one after the other of the host's addresses.
func (r *Reach) Dial(ctx context.Context, network, hostPort string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	ips, err := r.Resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{
		Control: sockets.Control,
		// A device that lost power is noticed after about 30 s, also where nothing is sent.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	var first error
	for i, ip := range ips {
		conn, err := dialOne(ctx, &dialer, network, net.JoinHostPort(ip.String(), port), len(ips)-i)
		if err == nil {
			return r.Outgoing.Keep(conn), nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// dialOne gives an address its share of the time that is left.
func dialOne(ctx context.Context, d *net.Dialer, network, address string, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	return d.DialContext(ctx, network, address)
}

// ReachOf gives what the connections of an address may reach.
func ReachOf(o *Options, a *Address) *Reach {
	return &Reach{Private: a.Private, Lookup: o.Lookup, Outgoing: o.Outgoing}
}
