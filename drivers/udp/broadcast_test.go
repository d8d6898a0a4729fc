package udp_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/udp"
)

// everybody is loopback's broadcast address.
const everybody = "127.255.255.255"

// hearers are devices that share a port, and hear what is sent to everybody there.
func hearers(t *testing.T, n int) (port int, all []net.PacketConn) {
	t.Helper()
	for range n {
		lc := net.ListenConfig{Control: udp.ShareAddress}
		c, err := lc.ListenPacket(t.Context(), "udp4", fmt.Sprintf("%s:%d", everybody, port))
		if err != nil {
			drivertest.Missing(t, "loopback has no broadcast address: %v", err)
		}
		t.Cleanup(func() { c.Close() })
		port = c.LocalAddr().(*net.UDPAddr).Port
		all = append(all, c)
	}
	return port, all
}

// hears waits for the next datagram.
func hears(t *testing.T, c net.PacketConn, want string) net.Addr {
	t.Helper()
	buf := make([]byte, 100)
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	n, from, err := c.ReadFrom(buf)
	if err != nil || string(buf[:n]) != want {
		t.Fatalf("heard %q, %v; want %q", buf[:n], err, want)
	}
	return from
}

// says sends from an address of loopback.
func says(t *testing.T, from, to, text string) {
	t.Helper()
	at, err := net.ResolveUDPAddr("udp4", to)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteToUDP([]byte(text), at); err != nil {
		t.Fatal(err)
	}
}

// What a twin sends to everybody arrives at all that listen, and anybody may answer.
func TestATwinBroadcasts(t *testing.T) {
	port, devices := hearers(t, 2)
	c, sink := open(t, fmt.Sprintf("udp://%s:%d", everybody, port), &drivers.UDPOptions{Broadcast: true, WithPeer: true}, nil)
	if err := c.Send(t.Context(), []byte("\x00who is there")); err != nil {
		t.Fatal(err)
	}
	twin := hears(t, devices[0], "who is there")
	hears(t, devices[1], "who is there")
	says(t, "127.0.0.9", fmt.Sprintf("127.0.0.1:%d", twin.(*net.UDPAddr).Port), "I am")
	sink.Await(t, "an answer", func([]string) bool { return len(sink.Frames()) > 0 })
	if got := string(sink.Frames()[0]); !strings.HasPrefix(got, "127.0.0.9:") || !strings.HasSuffix(got, "\x00I am") {
		t.Fatalf("got %q", got)
	}
	if err := c.Send(t.Context(), []byte("127.0.0.9:9\x00x")); !errors.Is(err, drivers.ErrDenied) {
		t.Fatalf("to one that the binding does not name: %v", err)
	}
}

// A network's broadcast address is one also where it does not look like it: without leave nothing goes there, neither as the
// twin's address nor by way of its peers.
func TestNoBroadcastWithoutLeave(t *testing.T) {
	port, devices := hearers(t, 1)
	at := fmt.Sprintf("%s:%d", everybody, port)
	for name, c := range map[string]struct {
		uri, frame string
		options    drivers.UDPOptions
	}{
		"as the address": {"udp://" + at, "hello", drivers.UDPOptions{}},
		"among peers":    {"udp://127.0.0.1:9", at + "\x00hello", drivers.UDPOptions{WithPeer: true, Peers: []string{"127.0.0.0/8"}}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, _ := open(t, c.uri, &c.options, nil)
			err := conn.Send(t.Context(), []byte(c.frame))
			if !errors.Is(err, drivers.ErrDenied) || !strings.Contains(err.Error(), everybody+" is a broadcast address, which the driver's transport does not allow") {
				t.Fatalf("got %v", err)
			}
			if c.options.WithPeer { // the others are reached as before
				other := newPeer(t, "127.0.0.1:0")
				if err := conn.Send(t.Context(), []byte(other.addr+"\x00hello")); err != nil {
					t.Fatal(err)
				}
				other.Received()
			}
		})
	}
	says(t, "127.0.0.1", at, "the first")
	hears(t, devices[0], "the first")
}

// What a device says to everybody is heard by the twins to which the binding gives it: of a broadcast address whoever is in
// reach or the peers alone, of one device that device alone.
func TestADeviceBroadcasts(t *testing.T) {
	port, _ := hearers(t, 1) // the system has such an address
	for name, c := range map[string]struct {
		uri     string
		options drivers.UDPOptions
		heard   string
		dropped uint64
	}{
		"anybody":    {"udp://" + everybody, drivers.UDPOptions{Broadcast: true}, "from 1, from 2", 0},
		"peers":      {"udp://" + everybody, drivers.UDPOptions{Broadcast: true, Peers: []string{"127.0.0.2"}}, "from 2", 1},
		"one device": {"udp://127.0.0.1", drivers.UDPOptions{}, "from 1", 1},
	} {
		t.Run(name, func(t *testing.T) {
			free, err := net.ListenUDP("udp4", nil)
			if err != nil {
				t.Fatal(err)
			}
			c.options.LocalPort = free.LocalAddr().(*net.UDPAddr).Port
			free.Close()
			set := metrics.NewSet()
			_, sink := open(t, fmt.Sprintf("%s:%d", c.uri, port), &c.options, set)
			for _, device := range []string{"1", "2"} {
				says(t, "127.0.0."+device, fmt.Sprintf("%s:%d", everybody, c.options.LocalPort), "from "+device)
			}
			dropped := transport.Dropped(set, "udp", "sender")
			var got []string
			sink.Await(t, "both datagrams", func([]string) bool {
				got = nil
				for _, f := range sink.Frames() {
					got = append(got, string(f))
				}
				return len(got)+int(dropped.Get()) >= 2
			})
			if strings.Join(got, ", ") != c.heard || dropped.Get() != c.dropped {
				t.Fatalf("heard %q, and %d were dropped", got, dropped.Get())
			}
		})
	}
}
