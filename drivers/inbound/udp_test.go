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
