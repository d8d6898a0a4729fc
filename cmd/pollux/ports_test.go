package main

import (
	"net"
	"testing"

	"github.com/polluxhq/pollux"
)

// hold listens at an address of its own host until the test ends.
func hold(t *testing.T, network, addr string) {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			t.Skipf("%s is taken by somebody else: %v", addr, err)
		}
		t.Cleanup(func() { c.Close() })
		return
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("%s is taken by somebody else: %v", addr, err)
	}
	t.Cleanup(func() { l.Close() })
}

func TestBusyPorts(t *testing.T) {
	for _, c := range []struct {
		name         string
		tcp, udp     []string
		gossip, peer string
	}{
		{"none", nil, nil, "127.83.1.1:7946", "127.83.1.1:7947"},
		// The next port after the busy one is what its neighbour wants.
		{"the first", []string{"127.83.1.1:7946"}, nil, "127.83.1.1:7948", "127.83.1.1:7947"},
		// Another node: each must get a port of its own.
		{"both", []string{"127.83.1.1:7946", "127.83.1.1:7947"}, nil, "127.83.1.1:7948", "127.83.1.1:7949"},
		{"over UDP alone", nil, []string{"127.83.1.1:7946"}, "127.83.1.1:7948", "127.83.1.1:7947"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, addr := range c.tcp {
				hold(t, "tcp", addr)
			}
			for _, addr := range c.udp {
				hold(t, "udp", addr)
			}
			gossip, peer, moves := "127.83.1.1:7946", "127.83.1.1:7947", 0
			if err := (portPicker{}).take(func(string, string) { moves++ }, &gossip, &peer); err != nil {
				t.Fatal(err)
			}
			if gossip != c.gossip || peer != c.peer {
				t.Errorf("gossip %s, peer %s; want %s and %s", gossip, peer, c.gossip, c.peer)
			}
			if want := len(c.tcp) + len(c.udp); moves != want {
				t.Errorf("told of %d moves, want %d", moves, want)
			}
		})
	}
}

// TestPeerPortsStay: what somebody asked for is not changed, nor the ports of a node that others are to find.
func TestPeerPortsStay(t *testing.T) {
	base := pollux.DefaultConfig()
	base.Gossip, base.Peer = "127.83.2.1:7946", "127.83.2.1:7947"
	hold(t, "tcp", base.Gossip)
	hold(t, "tcp", base.Peer)
	defaults := pollux.Origin{"gossip": "default", "peer": "default"}
	for _, c := range []struct {
		name   string
		change func(*pollux.Config)
		origin pollux.Origin
		moves  bool
	}{
		{"nothing asked", func(*pollux.Config) {}, defaults, true},
		{"peer asked", func(*pollux.Config) {}, pollux.Origin{"gossip": "default", "peer": "flag --peer"}, false},
		{"gossip asked", func(*pollux.Config) {}, pollux.Origin{"gossip": "variable POLLUX_GOSSIP", "peer": "default"}, false},
		{"joins", func(c *pollux.Config) { c.Join = []string{"127.83.2.9:7947"} }, defaults, false},
		{"waits for others", func(c *pollux.Config) { c.BootstrapExpect = 3 }, defaults, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := base
			c.change(&conf)
			busy, err := peerPorts(&conf, c.origin)
			if err != nil {
				t.Fatal(err)
			}
			want := base
			if c.moves {
				want.Gossip, want.Peer = "127.83.2.1:0", "127.83.2.1:0"
			}
			if conf.Gossip != want.Gossip || conf.Peer != want.Peer || (len(busy) == 2) != c.moves {
				t.Errorf("gossip %s, peer %s, busy %v; want moved: %v", conf.Gossip, conf.Peer, busy, c.moves)
			}
		})
	}
}
