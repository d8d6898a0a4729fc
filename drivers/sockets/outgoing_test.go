package sockets_test

import (
	"net"
	"testing"

	"github.com/polluxhq/pollux/drivers/sockets"
)

// TestOutgoing: a door tells the connections that were kept from others of the same machine, for as long as they are open.
func TestOutgoing(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("%s: %v", address, err) // a machine without IPv6
			continue
		}
		defer l.Close()
		o := sockets.NewOutgoing()
		pair := func(keep func(net.Conn) net.Conn) (out, in net.Conn) {
			t.Helper()
			out, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			out = keep(out)
			if in, err = l.Accept(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _, _ = out.Close(), in.Close() })
			return out, in
		}
		ours, taken := pair(o.Keep)
		_, other := pair(func(c net.Conn) net.Conn { return c })
		_, nobodys := pair((*sockets.Outgoing)(nil).Keep)
		if !o.Made(taken) || o.Made(other) || o.Made(nobodys) || (*sockets.Outgoing)(nil).Made(taken) {
			t.Errorf("%s: made: %t; others: %t, %t", address, o.Made(taken), o.Made(other), o.Made(nobodys))
		}
		if _ = ours.Close(); o.Made(taken) {
			t.Errorf("%s: a closed connection is still known", address)
		}
	}
}
