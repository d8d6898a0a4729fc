package inbound_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/inbound"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
)

// teller is a device that tells things over UDP, and hears answers at the port from which it does.
type teller struct {
	t      *testing.T
	port   int
	at     *net.UDPAddr
	device *net.UDPConn
	in     chan []byte
}

func newTeller(t *testing.T, port int) *teller {
	d := &teller{t: t, port: port, at: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, in: make(chan []byte, 1000)}
	d.Up()
	t.Cleanup(d.Down)
	return d
}

func (d *teller) URI() string { return fmt.Sprintf("udp-in://:%d?from=127.0.0.1", d.port) }

// Greeting implements contract.Greeter.
func (d *teller) Greeting() []byte { return []byte("here I am\n") }

func (d *teller) Up() {
	device, err := net.ListenUDP("udp4", d.at)
	if err != nil {
		d.t.Fatal(err)
	}
	d.at, d.device = device.LocalAddr().(*net.UDPAddr), device
	go func() {
		for buf := make([]byte, 64<<10); ; {
			n, _, err := device.ReadFromUDP(buf)
			if err != nil {
				return
			}
			d.in <- append([]byte{}, buf[:n]...)
		}
	}()
}

func (d *teller) Send(frame []byte) {
	if _, err := d.device.WriteToUDP(frame, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: d.port}); err != nil {
		d.t.Errorf("the device sends: %v", err)
	}
}

func (d *teller) Received() []byte {
	d.t.Helper()
	select {
	case frame := <-d.in:
		return frame
	case <-time.After(30 * time.Second):
		d.t.Fatal("the device received nothing")
		return nil
	}
}

func (d *teller) Drop() {}
func (d *teller) Down() { d.device.Close() }

func TestContractUDP(t *testing.T) {
	for name, peers := range map[string]bool{"plain": false, "with peers": true} {
		t.Run(name, func(t *testing.T) {
			o := drivers.TransportOptions{Scheme: "udp-in", UDP: &drivers.UDPOptions{WithPeer: peers}}
			var nodes *cluster // of each device: what is left of the one before has the same twin
			tr := contract.Transport{
				Open: func(o transport.Options) (drivers.Conn, error) { return nodes.hubs["n1"].Open(o) }, Options: o,
				Is: []contract.Kind{contract.Messages, contract.Datagrams, contract.Inbound, contract.Nameless},
				NewPeer: func(t *testing.T) contract.Peer {
					nodes = newCluster(t, "n1")
					port := freePort(t, "udp")
					if err := nodes.doors["n1"].Set([]inbound.Twin{{ID: "default/device", Scheme: "udp-in", Port: port,
						From: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Options: o}}); len(err) > 0 {
						t.Fatal(err)
					}
					return newTeller(t, port)
				},
			}
			if peers { // a frame without a peer goes to who spoke last
				tr.Encode = func(f []byte) []byte { return append([]byte{0}, f...) }
				tr.Decode = func(f []byte) []byte { _, rest, _ := strings.Cut(string(f), "\x00"); return []byte(rest) }
			}
			contract.Run(t, tr)
		})
	}
}

// A device tells a node that does not have its twin; the twin moves, and hears the next. Whoever may not is counted, and not
// heard.
func TestUDPAtAnotherNode(t *testing.T) {
	nodes := newCluster(t, "n1", "n2", "n3")
	port := freePort(t, "udp")
	o := drivers.TransportOptions{Scheme: "udp-in"}
	if err := nodes.doors["n2"].Set([]inbound.Twin{{ID: "p/u", Scheme: "udp-in", Port: port, Options: o,
		From: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}}); len(err) > 0 {
		t.Fatal(err)
	}
	device, stranger := newTeller(t, port), newTeller(t, port)
	stranger.Down()
	stranger.at = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}
	stranger.Up()
	for i, node := range []string{"n1", "n3"} {
		sink := &contract.Recorder{}
		c, err := nodes.hubs[node].Open(transport.Options{Sink: sink, Binding: drivers.Binding{Twin: "p/u", URI: device.URI(), Transport: o}})
		if err != nil {
			t.Fatal(err)
		}
		nodes.moves(node, "")
		stranger.Send([]byte("let me in"))
		device.Send([]byte("to " + node))
		sink.Await(t, "the datagram", func([]string) bool { return len(sink.Frames()) > 0 })
		if got := sink.Frames(); len(got) != 1 || string(got[0]) != "to "+node {
			t.Fatalf("%s heard %q", node, got)
		}
		if err := c.Send(t.Context(), []byte("from "+node)); err != nil {
			t.Fatal(err)
		}
		if got := device.Received(); string(got) != "from "+node {
			t.Fatalf("the device got %q", got)
		}
		if n := transport.Dropped(nodes.set, "udp-in", "sender").Get(); n != uint64(i+1) {
			t.Errorf("%d strangers counted", n)
		}
		c.Close()
	}
}

// A device that called in and says nothing is let go after the binding's time.
func TestIdle(t *testing.T) {
	for _, scheme := range []string{"tcp-in", "udp-in"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel() // it waits for the acceptor's tick
			nodes := newCluster(t, "n1")
			port := freePort(t, scheme[:3])
			o := drivers.TransportOptions{Scheme: scheme, IdleTimeoutMS: 1}
			if scheme == "tcp-in" {
				o.Tokenizer = lines
			}
			uri := fmt.Sprintf("%s://:%d?from=127.0.0.1", scheme, port)
			if err := nodes.doors["n1"].Set([]inbound.Twin{{ID: "p/t", Scheme: scheme, Port: port, Options: o,
				From: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}}); len(err) > 0 {
				t.Fatal(err)
			}
			sink := &contract.Recorder{}
			c, err := nodes.hubs["n1"].Open(transport.Options{Sink: sink, Binding: drivers.Binding{Twin: "p/t", URI: uri, Transport: o}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			device, err := net.Dial(scheme[:3], fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			defer device.Close()
			fmt.Fprintln(device, "hello")
			sink.Await(t, "the end", func(e []string) bool { return len(e) == 2 && e[1] == "disconnected: "+transport.ErrIdle.Error() })
		})
	}
}

// Datagrams that wait when their node stops are counted with those that the twin has not handled.
func TestDatagramsThatWaitAreCounted(t *testing.T) {
	const sent = 200
	nodes := newCluster(t, "n1") // where nobody has the twin
	port := freePort(t, "udp")
	if err := nodes.doors["n1"].Set([]inbound.Twin{{ID: "p/u", Scheme: "udp-in", Port: port, Options: drivers.TransportOptions{Scheme: "udp-in"},
		From: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}}); len(err) > 0 {
		t.Fatal(err)
	}
	device, stranger := newTeller(t, port), newTeller(t, port)
	stranger.Down()
	stranger.at = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}
	stranger.Up()
	for range sent {
		device.Send([]byte("x"))
	}
	stranger.Send([]byte("the last one that is read"))
	for end := time.Now().Add(30 * time.Second); transport.Dropped(nodes.set, "udp-in", "sender").Get() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody reads the port")
		}
	}
	if err := nodes.doors["n1"].Close(); err != nil {
		t.Fatal(err)
	}
	if n := transport.Dropped(nodes.set, "udp-in", "unhandled").Get(); n != sent {
		t.Errorf("%d of %d are counted", n, sent)
	}
}
