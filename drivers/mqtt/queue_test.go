package mqtt

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A member whose queue is full does not cost the others' messages: whoever has room gets them.
func TestASharedSubscriptionPassesByAFullQueue(t *testing.T) {
	b := start(t, &desk{forget: true}, func(o *Options) { o.Limits.Queued = 5 })
	stuck, works := join(t, b, 5, "stuck", stay), join(t, b, 5, "works", stay)
	stuck.subscribe(1, 1, "$share/g/t")
	works.subscribe(1, 1, "$share/g/t")
	pub := join(t, b, 5, "pub", nil)
	for i := range 40 {
		pub.publish("t", fmt.Sprint(i), 1, uint16(i+1))
		pub.expect(packets.Puback)
		if i < 10 && i%2 == 1 { // in turn, until the first one has what it takes
			pk := stuck.expect(packets.Publish)
			if string(pk.Payload) != fmt.Sprint(i) {
				t.Fatalf("got %q", pk.Payload)
			}
			continue
		}
		pk := works.expect(packets.Publish)
		if string(pk.Payload) != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", pk.Payload, i)
		}
		works.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
		eventually(t, "it is settled", func() bool { return stored(t, b, TableQueue) <= 5 })
	}
	if n := b.Stats(); n.DroppedQueue != 0 {
		t.Fatalf("stats %+v", n)
	}
}

// A queue that its client has emptied is not full, also for a node that has not seen that.
func TestAQueueThatWasEmptiedHasRoom(t *testing.T) {
	for _, limit := range []func(*Limits){func(l *Limits) { l.Queued = 10 }, func(l *Limits) { l.QueuedBytes = 10 * (overhead + 1000) }} {
		_, one, two := startPair(t, &desk{forget: true}, &desk{forget: true}, func(o *Options) { limit(&o.Limits) })
		p := join(t, two, 4, "p", stay)
		p.subscribe(1, 1, "t")
		knows(t, one, "t")
		pubs := []*peer{join(t, one, 4, "pub1", nil), join(t, two, 4, "pub2", nil)}
		for round := range 20 {
			for i := range 8 {
				pub := pubs[round%2]
				pub.publish("t", strings.Repeat("x", 900), 1, uint16(i+1))
				pub.expect(packets.Puback)
			}
			for range 8 {
				pk := p.expect(packets.Publish)
				p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
			}
			eventually(t, "the queue is empty", func() bool { return stored(t, two, TableQueue) == 0 })
		}
		if n := one.Stats().DroppedQueue + two.Stats().DroppedQueue; n > 0 {
			t.Fatalf("%d of 160 messages found an empty queue full", n)
		}
	}
}

// A client that always has something under way finds what its node was not told of all the same.
func TestWhatANodeWasNotToldOfDoesNotWaitForAPause(t *testing.T) {
	p, one, two := startPair(t, &desk{}, &desk{}, nil)
	a := join(t, two, 4, "a", stay)
	a.subscribe(1, 1, "t")
	knows(t, one, "t")
	busy := join(t, two, 4, "busy", nil)
	busy.publish("t", "under way", 1, 1)
	busy.expect(packets.Puback)
	a.expect(packets.Publish) // and never acknowledged
	p.set(func() { p.cut = true })
	pub := join(t, one, 4, "pub", nil)
	pub.publish("t", "not told of", 1, 1)
	pub.expect(packets.Puback)
	a.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	a.expect(packets.Pingresp)
	if pk := a.expect(packets.Publish); string(pk.Payload) != "not told of" {
		t.Fatalf("got %+v", pk)
	}
}

// What a member of a shared subscription leaves as it goes for good the others get: what it has not acknowledged with QoS 1, and what it was not sent at all.
func TestASharedSubscriptionPassesOnWhatAMemberLeaves(t *testing.T) {
	for name, session := range map[string]func(*packets.Packet){"its connection": nil, "its session": stay} {
		t.Run(name, func(t *testing.T) { passesOn(t, session) })
	}
}

func passesOn(t *testing.T, session func(*packets.Packet)) {
	b := start(t, &desk{forget: true}, func(o *Options) { o.Limits.OutboundUnacked = 3 })
	goes, stays := join(t, b, 5, "goes", session), join(t, b, 5, "stays", nil)
	goes.subscribe(1, 2, "$share/g/t/#")
	pub := join(t, b, 5, "pub", nil)
	// One of QoS 2 and two of QoS 1 are on their way to it; three more wait.
	for i := range 6 {
		qos := byte(1)
		if i == 0 {
			qos = 2
		}
		pub.publish("t/x", fmt.Sprint(i), qos, uint16(i+1))
		pub.next()
		if i < 3 {
			goes.expect(packets.Publish)
		}
	}
	stays.subscribe(1, 1, "$share/g/t/#")
	if session == nil {
		goes.conn.Close()
	} else {
		goes.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, Properties: packets.Properties{SessionExpiryIntervalFlag: true}})
	}
	for _, want := range []string{"1", "2", "3", "4", "5"} {
		pk := stays.expect(packets.Publish)
		if string(pk.Payload) != want {
			t.Fatalf("got %q, want %s", pk.Payload, want)
		}
		stays.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	stays.silent()
	eventually(t, "nothing is in a queue", func() bool { return stored(t, b, TableQueue) == 0 })
	if n := b.Stats(); n.DroppedQueue+n.DroppedOut != 0 {
		t.Fatalf("stats %+v", n)
	}
}

// A member that has no room does not cost the others' messages either.
func TestASharedSubscriptionPassesByAMemberWithoutRoom(t *testing.T) {
	b := start(t, &desk{forget: true}, func(o *Options) { o.Limits.OutboundUnacked = 2 })
	full, works := join(t, b, 4, "full", nil), join(t, b, 4, "works", nil)
	full.subscribe(1, 1, "$share/g/t")
	works.subscribe(1, 1, "$share/g/t")
	pub := join(t, b, 4, "pub", nil)
	for i := range 30 {
		pub.publish("t", fmt.Sprint(i), 1, uint16(i+1))
		pub.expect(packets.Puback)
		if i < 8 && i%2 == 1 { // in turn, until two are on their way to the first one and two wait
			continue
		}
		pk := works.expect(packets.Publish)
		if string(pk.Payload) != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", pk.Payload, i)
		}
		works.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	if n := b.Stats(); n.DroppedQueue+n.DroppedOut != 0 {
		t.Fatalf("stats %+v", n)
	}
}

// Who else shares the subscription may be at another node, and may have a session there that waits for its client.
func TestASharedSubscriptionPassesOnToAnotherNode(t *testing.T) {
	for name, away := range map[string]bool{"a client": false, "the session of a client that is away": true} {
		t.Run(name, func(t *testing.T) {
			_, one, two := startPair(t, &desk{}, &desk{}, nil)
			goes, pub := join(t, one, 5, "goes", nil), join(t, one, 5, "pub", nil)
			goes.subscribe(1, 1, "$share/g/t/#")
			for i := range 3 {
				pub.publish("t/x", fmt.Sprint(i), 1, uint16(i+1))
				pub.expect(packets.Puback)
				goes.expect(packets.Publish)
			}
			stays := join(t, two, 5, "stays", stay)
			stays.subscribe(1, 1, "$share/g/t/#")
			eventually(t, "both nodes know both", func() bool {
				groups := one.audienceOf("t/x").groups
				return len(groups) == 1 && len(groups[0].members) == 2
			})
			if away {
				stays.conn.Close()
				eventually(t, "it is away", func() bool { return two.connected("stays") == nil })
			}
			goes.conn.Close()
			if away {
				eventually(t, "they are in its queue", func() bool { return stored(t, two, TableQueue) == 3 })
				stays = join(t, two, 5, "stays", stay)
			}
			for i := range 3 {
				pk := stays.expect(packets.Publish)
				if string(pk.Payload) != fmt.Sprint(i) {
					t.Fatalf("got %q, want %d", pk.Payload, i)
				}
				stays.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
			}
			stays.silent()
			if n := one.Stats(); n.DroppedQueue+n.DroppedOut+two.Stats().DroppedOut != 0 {
				t.Fatalf("stats %+v", n)
			}
		})
	}
}
