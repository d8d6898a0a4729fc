package mqtt

import (
	"errors"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

func stay(pk *packets.Packet) {
	pk.Connect.Clean = false
	if pk.ProtocolVersion == 5 {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
	}
}

func TestQoS2IsDeliveredOnceUntilReleased(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		d := &desk{}
		b := start(t, d, nil)
		p := join(t, b, version, "a", nil)
		for range 3 {
			p.publish("t", "x", 2, 5)
			if pk := p.expect(packets.Pubrec); pk.PacketID != 5 || pk.ReasonCode != 0 {
				t.Fatalf("got %+v", pk)
			}
		}
		for i := range 2 {
			p.pubrel(5)
			want := byte(0)
			if i == 1 && version == 5 {
				want = 0x92 // not found: released already
			}
			if pk := p.expect(packets.Pubcomp); pk.PacketID != 5 || pk.ReasonCode != want {
				t.Fatalf("got %+v", pk)
			}
		}
		p.publish("t", "y", 2, 5)
		p.expect(packets.Pubrec)
		if got := d.messages(); len(got) != 2 || string(got[1].Payload) != "y" {
			t.Fatalf("delivered %d times", len(got))
		}
		if n := b.Stats(); n.Duplicates != 2 {
			t.Fatalf("stats %+v", n)
		}
	})
}

func TestQoS2IsDeliveredOnceOverReconnects(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		d := &desk{hold: true}
		b := start(t, d, nil)
		p := join(t, b, version, "a", stay)
		p.publish("t", "x", 2, 5)
		eventually(t, "the message", func() bool { return d.count() == 1 })
		p.publish("t", "x", 2, 5) // on the same connection: answered with the first
		p.conn.Close()

		p = plug(t, b)
		if ack := p.connect(version, "a", stay); !ack.SessionPresent {
			t.Fatal("no session")
		}
		p.publish("t", "x", 2, 5) // the handler still has the first one
		p.publish("t", "z", 1, 6)
		eventually(t, "the second message", func() bool { return d.count() == 2 })
		p.silent()
		dones := d.take()
		dones[1](nil)
		dones[0](nil)
		if pk := p.expect(packets.Pubrec); pk.PacketID != 5 || pk.ReasonCode != 0 {
			t.Fatalf("got %+v", pk)
		}
		p.expect(packets.Puback)
		p.silent()
		p.conn.Close()

		p = join(t, b, version, "a", stay) // PUBREC might have been lost
		p.publish("t", "x", 2, 5)
		p.expect(packets.Pubrec)
		p.pubrel(5)
		p.expect(packets.Pubcomp)
		if d.count() != 2 {
			t.Fatalf("delivered %d times", d.count())
		}
		eventually(t, "nothing pending", func() bool { return b.Stats().PendingBytes == 0 })
	})
}

func TestQoS2ThatFailsAfterAReconnectClosesThatToo(t *testing.T) {
	d := &desk{hold: true}
	b := start(t, d, nil)
	p := join(t, b, 4, "a", stay)
	p.publish("t", "x", 2, 5)
	eventually(t, "the message", func() bool { return d.count() == 1 })
	p.conn.Close()
	p = join(t, b, 4, "a", stay)
	p.publish("t", "x", 2, 5)
	eventually(t, "the duplicate", func() bool { return b.Stats().Duplicates == 1 })
	d.take()[0](errors.New("no quorum"))
	p.expectClosed()
	p = join(t, b, 4, "a", stay)
	p.publish("t", "x", 2, 5)
	eventually(t, "the message again", func() bool { return d.count() == 2 })
	d.take()[0](nil)
	p.expect(packets.Pubrec)
	eventually(t, "nothing pending", func() bool { return b.Stats().PendingBytes == 0 })
}

func TestACleanSessionForgetsQoS2(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	// The sessions end by a new clean start, by a takeover of a clean one, and by an expiry of 0.
	for i, kinds := range [][2]func(*packets.Packet){{stay, nil}, {nil, stay}, {nil, nil}} {
		p := join(t, b, 4, "a", kinds[0])
		p.publish("t", "x", 2, 5)
		p.expect(packets.Pubrec)
		if i < 2 {
			defer p.conn.Close()
		} else {
			p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
			p.expectClosed()
		}
		again := plug(t, b)
		if ack := again.connect(4, "a", kinds[1]); ack.SessionPresent {
			t.Fatal("a session")
		}
		again.publish("t", "y", 2, 5)
		again.expect(packets.Pubrec)
		again.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
		again.expectClosed()
		if d.count() != 2*i+2 {
			t.Fatalf("case %d: delivered %d", i, d.count())
		}
		join(t, b, 4, "a", nil).send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	}
	eventually(t, "no inbox", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.held) == 0 })
}

func TestQoS2ThatIsNeverReleasedIsBounded(t *testing.T) {
	d := &desk{}
	b := start(t, d, func(o *Options) { o.Limits.Unacked = 10 })
	p := join(t, b, 5, "a", nil)
	for id := uint16(1); id <= 10; id++ {
		p.publish("t", "x", 2, id)
		p.expect(packets.Pubrec)
	}
	p.publish("t", "x", 2, 11)
	if code := p.expectClosed(); code != 0x93 {
		t.Fatalf("DISCONNECT with %#x", code)
	}
	eventually(t, "the count", func() bool { return b.Stats().Closed["unreleased"] == 1 })
}
