package udp_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
	"github.com/polluxhq/pollux/drivers/udp"
)

// peer is a device that answers whoever spoke to it last.
type peer struct {
	t     *testing.T
	addr  string
	in    chan []byte
	mu    sync.Mutex
	conn  *net.UDPConn
	other netip.AddrPort
	heard *sync.Cond
}

func newPeer(t *testing.T, addr string) *peer {
	p := &peer{t: t, addr: addr, in: make(chan []byte, 1000)}
	p.heard = sync.NewCond(&p.mu)
	p.Up()
	t.Cleanup(p.Down)
	return p
}

func (p *peer) URI() string { return "udp://" + p.addr }

func (p *peer) Up() {
	at, err := net.ResolveUDPAddr("udp4", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp4", at)
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = conn.LocalAddr().String()
	p.mu.Lock()
	p.conn = conn
	p.mu.Unlock()
	go func() {
		for {
			buf := make([]byte, 64<<10)
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.other = from
			p.heard.Broadcast()
			p.mu.Unlock()
			if string(buf[:n]) != "greeting\n" { // which shows where the twin is
				p.in <- buf[:n]
			}
		}
	}()
}

func (p *peer) Send(frame []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.other.IsValid() {
		p.heard.Wait()
	}
	if _, err := p.conn.WriteToUDPAddrPort(frame, p.other); err != nil {
		p.t.Error(err)
	}
}

func (p *peer) Received() []byte {
	p.t.Helper()
	select {
	case b := <-p.in:
		return b
	case <-time.After(30 * time.Second):
		p.t.Fatal("the device received nothing")
		return nil
	}
}

func (p *peer) Drop() {}

func (p *peer) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn.Close()
}

// opened greets the device, which knows twins only once they spoke.
func opened(o transport.Options) (drivers.Conn, error) {
	c, err := udp.Open(o)
	if err != nil {
		return nil, err
	}
	greeting := "greeting\n"
	if u := o.Binding.Transport.UDP; u != nil && u.WithPeer {
		greeting = "\x00" + greeting
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if c.Send(context.Background(), []byte(greeting)) == nil || c.(*transport.Conn).Stats().Errors > 0 {
			break
		}
	}
	return c, nil
}

func TestContract(t *testing.T) {
	for name, u := range map[string]*drivers.UDPOptions{"plain": nil, "with peers": {WithPeer: true}} {
		t.Run(name, func(t *testing.T) {
			tr := contract.Transport{
				Open: opened, Options: drivers.TransportOptions{Scheme: "udp", UDP: u}, Is: []contract.Kind{contract.Messages, contract.Datagrams},
				NewPeer: func(t *testing.T) contract.Peer { return newPeer(t, "127.0.0.1:0") },
			}
			if u != nil {
				tr.Encode = func(f []byte) []byte { return append([]byte{0}, f...) }
				tr.Decode = func(f []byte) []byte { _, rest, _ := strings.Cut(string(f), "\x00"); return []byte(rest) }
			}
			contract.Run(t, tr)
		})
	}
}

func open(t *testing.T, uri string, u *drivers.UDPOptions, set *metrics.Set) (drivers.Conn, *contract.Recorder) {
	t.Helper()
	sink := &contract.Recorder{}
	c, err := udp.Open(transport.Options{Sink: sink, Metrics: set, Binding: drivers.Binding{URI: uri,
		Transport: drivers.TransportOptions{Scheme: "udp", UDP: u}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	sink.Await(t, "the socket", func(e []string) bool { return len(e) > 0 })
	return c, sink
}

func TestStrangersAreNotHeard(t *testing.T) {
	device, stranger := newPeer(t, "127.0.0.1:0"), newPeer(t, "127.0.0.2:0")
	set := metrics.NewSet()
	c, sink := open(t, device.URI(), nil, set)
	if err := c.Send(t.Context(), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	device.Received()
	stranger.mu.Lock()
	stranger.other = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), device.other.Port())
	stranger.mu.Unlock()
	stranger.Send([]byte("I am the device"))
	dropped := transport.Dropped(set, "udp", "sender")
	for deadline := time.Now().Add(30 * time.Second); dropped.Get() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the stranger's datagram was not dropped")
		}
	}
	device.Send([]byte("no, I am"))
	sink.Await(t, "the device", func([]string) bool { return len(sink.Frames()) > 0 })
	if f := sink.Frames(); len(f) != 1 || string(f[0]) != "no, I am" {
		t.Fatalf("heard %q", f)
	}
}

func TestPeersAreNamedAndBounded(t *testing.T) {
	device, other, out := newPeer(t, "127.0.0.1:0"), newPeer(t, "127.0.0.2:0"), newPeer(t, "127.0.1.1:0")
	c, sink := open(t, device.URI(), &drivers.UDPOptions{WithPeer: true, Peers: []string{"127.0.0.0/24"}}, nil)
	if err := c.Send(t.Context(), []byte(other.addr+"\x00to the other")); err != nil {
		t.Fatal(err)
	}
	if got := other.Received(); string(got) != "to the other" {
		t.Fatalf("got %q", got)
	}
	other.Send([]byte("from the other"))
	sink.Await(t, "the other", func([]string) bool { return len(sink.Frames()) > 0 })
	if got := string(sink.Frames()[0]); got != other.addr+"\x00from the other" {
		t.Fatalf("got %q", got)
	}
	if err := c.Send(t.Context(), []byte(out.addr+"\x00x")); !errors.Is(err, drivers.ErrDenied) {
		t.Fatalf("to an address outside: %v", err)
	}
	for _, bad := range []string{"no zero byte", "nobody\x00x", "127.0.0.1:99999\x00x"} {
		if err := c.Send(t.Context(), []byte(bad)); !errors.Is(err, drivers.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := c.Send(t.Context(), []byte("127.0.0.1\x00to the device's own port")); err != nil {
		t.Fatal(err)
	}
	device.Received()
}

// Two twins in one group hear each other, and nobody of another group at the same port.
func TestMulticast(t *testing.T) {
	l, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	port := l.LocalAddr().(*net.UDPAddr).Port
	l.Close()
	lo, err := net.InterfaceByIndex(1)
	if err != nil || lo.Flags&net.FlagLoopback == 0 {
		t.Skip("the first interface is not loopback")
	}
	o := &drivers.UDPOptions{Interface: lo.Name, WithPeer: true}
	in := func(group string) string { return fmt.Sprintf("udp://%s:%d", group, port) }
	a, heardA := join(t, in("239.77.0.1"), o)
	b, heardB := join(t, in("239.77.0.1"), o)
	other, heardOther := join(t, in("239.77.0.2"), o)
	for _, c := range []drivers.Conn{a, b, other} {
		awaitSocket(t, c)
	}
	say(t, a, "\x00to all")
	say(t, other, "\x00to others")
	for _, s := range []*contract.Recorder{heardA, heardB, heardOther} {
		s.Await(t, "a datagram", func([]string) bool { return len(s.Frames()) > 0 })
	}
	// Who heard only himself is connected with nobody.
	if len(heardA.Events()) != 0 || len(heardOther.Events()) != 0 {
		t.Errorf("heard themselves, and count as connected: %q, %q", heardA.Events(), heardOther.Events())
	}
	heardB.Await(t, "the connection", func(e []string) bool { return len(e) == 1 && e[0] == "connected" })
	for name, s := range map[string]*contract.Recorder{"to all": heardB, "to others": heardOther} {
		_, text, _ := strings.Cut(string(s.Frames()[0]), "\x00")
		if len(s.Frames()) != 1 || text != name {
			t.Errorf("heard %q, want %q alone", s.Frames(), name)
		}
	}
	say(t, b, "\x00an answer")
	heardA.Await(t, "the connection", func(e []string) bool { return len(e) == 1 && e[0] == "connected" })
}

// join opens a group, of which nothing is heard at first.
func join(t *testing.T, uri string, u *drivers.UDPOptions) (drivers.Conn, *contract.Recorder) {
	t.Helper()
	sink := &contract.Recorder{}
	c, err := udp.Open(transport.Options{Sink: sink, Binding: drivers.Binding{URI: uri, Transport: drivers.TransportOptions{Scheme: "udp", UDP: u}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, sink
}

// awaitSocket waits until a twin of a group hears it.
func awaitSocket(t *testing.T, c drivers.Conn) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err = c.Send(t.Context(), []byte("no frame, for want of a zero byte")); errors.Is(err, drivers.ErrInvalid) {
			return // the socket's word, not that of the want of one
		}
	}
	t.Fatal(err)
}

// say sends, as soon as there is a socket.
func say(t *testing.T, c drivers.Conn, frame string) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err = c.Send(t.Context(), []byte(frame)); err == nil {
			return
		}
		if strings.Contains(err.Error(), "unreachable") {
			t.Skipf("this machine has no multicast on loopback: %v", err)
		}
	}
	t.Fatal(err)
}

func TestAddresses(t *testing.T) {
	for uri, want := range map[string]string{
		"udp://255.255.255.255:9": "broadcast",
		"udp://0.0.0.0:9":         "no device's address",
		"udp://h":                 "no port",
	} {
		_, err := udp.Open(transport.Options{Sink: &contract.Recorder{}, Binding: drivers.Binding{URI: uri, Transport: drivers.TransportOptions{Scheme: "udp"}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", uri, err, want)
		}
	}
	_, _ = open(t, "udp://255.255.255.255:9", &drivers.UDPOptions{Broadcast: true}, nil)
}

// FuzzReader has the driver send, and a peer say, whatever they like.
func FuzzReader(f *testing.F) {
	f.Add([]byte("127.0.0.1:9\x00x"), true)
	f.Add([]byte{0}, true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, in []byte, withPeer bool) {
		device, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer device.Close()
		c, sink := open(t, "udp://"+device.LocalAddr().String(), &drivers.UDPOptions{WithPeer: withPeer}, nil)
		_ = c.Send(t.Context(), in) // where to is the driver's affair
		hello := "hello"
		if withPeer {
			hello = "\x00hello"
		}
		if err := c.Send(t.Context(), []byte(hello)); err != nil {
			t.Fatal(err)
		}
		var from netip.AddrPort
		for buf := make([]byte, 70000); ; {
			n, at, err := device.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatal(err)
			}
			if from = at; string(buf[:n]) == "hello" {
				break
			}
		}
		if _, err := device.WriteToUDPAddrPort(in, from); err != nil {
			return // longer than a datagram
		}
		if len(in) > 16<<10 {
			return
		}
		sink.Await(t, "the datagram", func([]string) bool { return len(sink.Frames()) > 0 })
		want := string(in)
		if withPeer {
			want = device.LocalAddr().String() + "\x00" + want
		}
		if got := string(sink.Frames()[0]); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}
