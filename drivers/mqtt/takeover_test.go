package mqtt

import (
	"fmt"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestATakeoverEndsTheOldConnectionFirst(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		d := &desk{}
		b := start(t, d, nil)
		for i := range 50 {
			first := join(t, b, version, "lamp", func(pk *packets.Packet) {
				pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "lwt", fmt.Append(nil, i)
			})
			if i%2 == 0 {
				first.publish("t", "x", 0, 0)
				first.conn.Close() // both at once: the old one ends by itself
			}
			second := join(t, b, version, "lamp", nil)
			// The new one is let in when all of the old one is through, its will included.
			all := d.messages()
			if m := all[len(all)-1]; !m.Will || string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("round %d: the last message is %+v", i, m)
			}
			second.subscribe(1, 0, "to/lamp")
			if err := b.Publish("to/lamp", []byte("x"), 0, false); err != nil {
				t.Fatal(err)
			}
			second.expect(packets.Publish)
			if i%2 == 1 {
				if code := first.expectClosed(); version == 5 && code != 0x8e {
					t.Fatalf("DISCONNECT with %#x", code)
				}
			}
			second.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
		}
		if n := b.Stats(); n.Wills != 50 || n.Closed["taken_over"] < 25 {
			t.Fatalf("stats %+v", n)
		}
	})
}

func TestManyConnectionsFightForOneID(t *testing.T) {
	d := &desk{forget: true}
	b := start(t, d, nil)
	var group sync.WaitGroup
	for range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := range 25 {
				p := plug(t, b)
				pk := packets.Packet{
					FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: 4,
					Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: i%2 == 0, Keepalive: 60, ClientIdentifier: "one"},
				}
				p.send(pk)
				if _, err := p.next(); err != nil {
					continue // taken over already
				}
				_, _ = p.conn.Write([]byte{0x82, 6, 0, 1, 0, 1, 'x', 0})
				_, _ = p.conn.Write([]byte{0x32, 6, 0, 1, 't', 0, 1, 'x'})
			}
		}()
	}
	group.Wait()
	p := join(t, b, 4, "one", nil)
	p.subscribe(1, 0, "x")
	if err := b.Publish("x", []byte("y"), 0, false); err != nil {
		t.Fatal(err)
	}
	p.expect(packets.Publish)
	eventually(t, "one is left", func() bool {
		n := b.Stats()
		return n.Clients == 1 && n.Sessions == 1 && n.Subscriptions == 1 && n.Connecting == 0
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.byID) != 1 || len(b.conns) != 1 {
		t.Fatalf("%d ids, %d connections", len(b.byID), len(b.conns))
	}
}
