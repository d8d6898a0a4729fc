package main

import (
	"fmt"
	"net"
	"strconv"

	"github.com/polluxhq/pollux"
)

// portPicker finds free ports and gives each of them out once.
type portPicker map[string]bool

// take gives each address as it is where it is free, and else the next free port of its host. Those that can stay are
// served first, so that nobody is moved onto a port that another one of them wants. moved is told of each that moves.
func (p portPicker) take(moved func(from, to string), addrs ...*string) error {
	var busy []*string
	for _, at := range addrs {
		if !p.free(*at) {
			busy = append(busy, at)
			continue
		}
		p[*at] = true
	}
	for _, at := range busy {
		to, err := p.next(*at)
		if err != nil {
			return err
		}
		moved(*at, to)
		*at = to
	}
	return nil
}

// next gives addr, or the same host with the next of 100 ports that is free.
func (p portPicker) next(addr string) (string, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	port, err := strconv.Atoi(text)
	if err != nil || port == 0 {
		return addr, err
	}
	for n := port; n < port+100 && n < 65536; n++ {
		if try := net.JoinHostPort(host, strconv.Itoa(n)); p.free(try) {
			p[try] = true
			return try, nil
		}
	}
	return "", fmt.Errorf("no free port from %s on", addr)
}

// free says whether nobody listens at addr, over TCP and over UDP (gossip uses both). Port 0 is always free.
func (p portPicker) free(addr string) bool {
	if _, port, err := net.SplitHostPort(addr); err == nil && port == "0" {
		return true
	}
	if p[addr] {
		return false
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	u.Close()
	return true
}

// peerPorts lets a second node run on one machine: where a port between nodes is busy that nobody asked for, the system
// chooses another when it is opened, so that nodes that start at one moment do not meet on it. A node that joins or waits for
// others keeps to what it was told.
func peerPorts(c *pollux.Config, origin pollux.Origin) (busy []string, err error) {
	if len(c.Join) > 0 || c.BootstrapExpect > 1 || origin["gossip"] != "default" || origin["peer"] != "default" {
		return nil, nil
	}
	for _, at := range []*string{&c.Gossip, &c.Peer} {
		if (portPicker{}).free(*at) {
			continue
		}
		host, _, err := net.SplitHostPort(*at)
		if err != nil {
			return nil, err
		}
		busy = append(busy, *at)
		*at = net.JoinHostPort(host, "0")
	}
	return busy, nil
}
