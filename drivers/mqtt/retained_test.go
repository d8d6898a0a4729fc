package mqtt

import (
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"google.golang.org/protobuf/proto"
)

// A session that outlives its connection gets all retained messages of a subscription, also where they are more than its queue takes at once, and
// those on their way to the store do not hide others.
func TestRetainedMessagesBeyondAQueue(t *testing.T) {
	const n = 500
	b := start(t, &desk{forget: true}, func(o *Options) { o.Limits.Queued = 100 })
	pub := join(t, b, 4, "pub", nil)
	for i := range n {
		pub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, TopicName: fmt.Sprintf("r/%04d", i),
			Payload: []byte("kept"), PacketID: uint16(i + 1)})
		pub.expect(packets.Puback)
	}
	p := join(t, b, 4, "keeps", stay)
	p.subscribe(1, 1, "r/#")
	for i := range n {
		pk := p.expect(packets.Publish)
		if want := fmt.Sprintf("r/%04d", i); pk.TopicName != want || !pk.FixedHeader.Retain {
			t.Fatalf("got %s, want %s; stats %+v", pk.TopicName, want, b.Stats())
		}
		p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	p.silent()
	if s := b.Stats(); s.DroppedQueue != 0 || s.DroppedOut != 0 {
		t.Fatalf("stats %+v", s)
	}
}

func TestARetainedMessageThatIsNotWrittenYetHidesNone(t *testing.T) {
	const n = 50
	b := start(t, &desk{forget: true}, func(o *Options) { o.Limits.OutboundUnacked = 10 })
	pub := join(t, b, 4, "pub", nil)
	for i := range n {
		pub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, TopicName: fmt.Sprintf("r/%04d", i),
			Payload: []byte("kept"), PacketID: uint16(i + 1)})
		pub.expect(packets.Puback)
	}
	last, err := proto.Marshal(newMessage("r/9999", []byte("kept"), 1, true, nil, "pub").record())
	if err != nil {
		t.Fatal(err)
	}
	b.retained.mu.Lock()
	b.retained.flying = map[string][]byte{"r/9999": last} // its transaction takes a while
	b.retained.mu.Unlock()
	p := join(t, b, 4, "p", nil)
	p.subscribe(1, 1, "r/#")
	all := map[string]bool{}
	for len(all) <= n {
		pk := p.expect(packets.Publish)
		if all[pk.TopicName] {
			t.Fatalf("%s came twice", pk.TopicName)
		}
		all[pk.TopicName] = true
		p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	p.silent()
}

// What expired makes room: what a device keeps for an hour under topics of its own does not fill the broker for ever.
func TestRetainedMessagesThatExpiredAreRemoved(t *testing.T) {
	t.Parallel()
	b := start(t, &desk{forget: true}, func(o *Options) { o.Limits.Retained = 10 })
	pub := join(t, b, 5, "pub", nil)
	keep := func(topic string, id uint16, expiry uint32) {
		pub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, TopicName: topic, Payload: []byte("kept"), PacketID: id,
			Properties: packets.Properties{MessageExpiryInterval: expiry}})
		pub.expect(packets.Puback)
	}
	keep("for/ever", 1, 0)
	keep("for/long", 2, 3600)
	for i := range 8 {
		keep(fmt.Sprint("short/", i), uint16(i+3), 1)
	}
	keep("more", 20, 0) // there is no room
	if n := stored(t, b, TableRetained); n != 10 {
		t.Fatalf("%d are kept", n)
	}
	eventually(t, "those that expired are gone", func() bool { return stored(t, b, TableRetained) == 2 })
	eventually(t, "there is room", func() bool {
		keep("more", 21, 0)
		return stored(t, b, TableRetained) == 3
	})
}
