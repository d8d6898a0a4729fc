package mqtt

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/storage"
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

// What is known of a packet id may be of another time: a node that was away wrote it late, or an older backup was put back. A new message is
// none that was received before.
func TestAnIDThatIsKnownOfAnotherTimeTakesNoMessageAlong(t *testing.T) {
	d1, d2 := &desk{hold: true}, &desk{}
	p, one, two := startPair(t, d1, d2, nil)
	a := join(t, one, 4, "a", stay)
	a.publish("t", "first", 2, 5)
	eventually(t, "the message", func() bool { return d1.count() == 1 })
	p.set(func() { p.dead["n1"] = true }) // for the other node; it goes on, and does not know
	b := join(t, two, 4, "a", stay)
	b.publish("t", "first", 2, 5)
	b.expect(packets.Pubrec)
	b.pubrel(5)
	b.expect(packets.Pubcomp)
	d1.take()[0](nil)
	one.writer.flush()
	b.conn.Close()

	b = plug(t, two)
	if ack := b.connect(4, "a", stay); !ack.SessionPresent {
		t.Fatal("no session")
	}
	b.publish("t", "second", 2, 5)
	b.expect(packets.Pubrec)
	if all := d2.messages(); len(all) != 2 || string(all[1].Payload) != "second" {
		t.Fatalf("%d messages were delivered, the last one is %q", len(all), all[len(all)-1].Payload)
	}
	b.publish("t", "second", 2, 5) // and now it is known
	b.expect(packets.Pubrec)
	b.pubrel(5)
	b.expect(packets.Pubcomp)
	if d2.count() != 2 {
		t.Fatalf("%d messages were delivered", d2.count())
	}
}

// A client that comes to another node while a message of QoS 2 is with the handler of the one before is let in when that is through.
func TestQoS2IsDeliveredOnceOverNodes(t *testing.T) {
	d1, d2 := &desk{hold: true}, &desk{}
	_, one, two := startPair(t, d1, d2, nil)
	a := join(t, one, 4, "a", stay)
	a.publish("t", "x", 2, 5)
	eventually(t, "the message", func() bool { return d1.count() == 1 })
	a.conn.Close()
	time.AfterFunc(200*time.Millisecond, func() { d1.take()[0](nil) })
	b := plug(t, two)
	if ack := b.connect(4, "a", stay); !ack.SessionPresent {
		t.Fatal("no session")
	}
	b.publish("t", "x", 2, 5)
	b.expect(packets.Pubrec)
	b.pubrel(5)
	b.expect(packets.Pubcomp)
	if d2.count() != 0 {
		t.Fatal("it was delivered twice")
	}
}

// A client that has seen a message of QoS 2 under an id gets it under that id again, whatever else goes out meanwhile.
func TestAMessageOfQoS2KeepsItsID(t *testing.T) {
	for _, has := range []bool{false, true} { // the client has it, and only PUBREL is missing
		b := start(t, &desk{}, nil)
		p := join(t, b, 4, "p", stay)
		p.subscribe(1, 2, "t/#")
		pub := join(t, b, 4, "pub", nil)
		pub.publish("t/2", "x", 2, 1)
		pub.expect(packets.Pubrec)
		x := p.expect(packets.Publish)
		if has {
			p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: x.PacketID})
			p.expect(packets.Pubrel)
		}
		p.conn.Close()
		eventually(t, "it is away", func() bool { return b.clients.get("p").place.Load().away })
		// Another node, whose clock is behind, has queued one meanwhile: it comes first.
		early := outgoing{m: newMessage("t/1", []byte("y"), 1, false, nil, "pub"), qos: 1}
		value, err := proto.Marshal(early.record())
		if err != nil {
			t.Fatal(err)
		}
		place := b.clients.get("p").place.Load()
		if _, err := b.store.Commit(t.Context(), &storage.Txn{Writes: []storage.Write{{Table: TableQueue, Value: value,
			Key: fmt.Sprintf("%s%016x-n2", queuePrefix("p", place.birth), time.Now().Add(-time.Minute).UnixNano())}}}); err != nil {
			t.Fatal(err)
		}
		p = join(t, b, 4, "p", stay)
		y := p.expect(packets.Publish)
		if string(y.Payload) != "y" || y.PacketID == x.PacketID {
			t.Fatalf("%q has the id %d, which the client knows another one by", y.Payload, y.PacketID)
		}
		if has {
			if pk := p.expect(packets.Pubrel); pk.PacketID != x.PacketID {
				t.Fatalf("PUBREL of %d, want %d", pk.PacketID, x.PacketID)
			}
		} else if again := p.expect(packets.Publish); again.PacketID != x.PacketID || string(again.Payload) != "x" {
			t.Fatalf("%q comes again as %d, want %d", again.Payload, again.PacketID, x.PacketID)
		}
		p.silent()
	}
}

// The time of a message is not over while the client has it, and nobody has said that it may forget its id.
func TestAMessageOfQoS2ThatWasSentDoesNotExpire(t *testing.T) {
	b := start(t, &desk{}, nil)
	p := join(t, b, 5, "p", stay)
	p.subscribe(1, 2, "t")
	pub := join(t, b, 5, "pub", nil)
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, TopicName: "t", Payload: []byte("1"), PacketID: 1}
	pk.FixedHeader.Qos, pk.Properties.MessageExpiryInterval = 2, 1
	pub.send(pk)
	pub.expect(packets.Pubrec)
	first := p.expect(packets.Publish)
	p.conn.Close()
	time.Sleep(1100 * time.Millisecond)
	p = join(t, b, 5, "p", stay)
	if again := p.expect(packets.Publish); again.PacketID != first.PacketID || !again.FixedHeader.Dup {
		t.Fatalf("got %+v", again)
	}
}

// A node that was away for a while writes late which id it has given a message: the client has had that one at another node, and does not get it again.
func TestALateNodeDoesNotBringAMessageOfQoS2Back(t *testing.T) {
	p, one, two := startPair(t, &desk{}, &desk{}, nil)
	a := join(t, one, 4, "a", stay)
	a.subscribe(1, 2, "t")
	knows(t, two, "t")
	p.set(func() { p.cut = true }) // so that who publishes does not wait for it either
	one.writer.mu.Lock()           // it stands still
	pub := join(t, two, 4, "pub", nil)
	pub.publish("t", "once", 2, 1)
	pub.expect(packets.Pubrec)
	look := make(chan struct{})
	go func() { // it has read the queue, and is about to write
		one.connected("a").look()
		close(look)
	}()
	<-look
	s := one.connected("a")
	eventually(t, "it is about to write", func() bool {
		if free := s.mu.TryLock(); free {
			s.mu.Unlock()
			return false
		}
		return true
	})
	p.set(func() { p.dead["n1"] = true })
	b := join(t, two, 4, "a", stay)
	pk := b.expect(packets.Publish)
	b.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: pk.PacketID})
	b.expect(packets.Pubrel)
	b.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubcomp}, PacketID: pk.PacketID})
	eventually(t, "the queue is empty", func() bool { return stored(t, two, TableQueue) == 0 })
	one.writer.mu.Unlock()
	s.isClosing() // it has its turn before
	one.writer.flush()
	if n := stored(t, two, TableQueue); n != 0 {
		t.Errorf("%d messages are in the queue again", n)
	}
	b.silent()
	b.silent() // the queue was looked at by now
}
