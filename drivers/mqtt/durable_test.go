package mqtt

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// pair is two brokers on one store, as two nodes have the same records, with a link that can be cut.
type pair struct {
	mu   sync.Mutex
	node map[string]*Broker
	dead map[string]bool
	cut  bool
}

// side is the cluster as one of the nodes sees it.
type side struct {
	p *pair
}

func (s side) SendTo(node string, env *cluster.Envelope, done func(cluster.Reply)) {
	s.p.mu.Lock()
	b, gone := s.p.node[node], s.p.cut || s.p.dead[node]
	s.p.mu.Unlock()
	if b == nil || gone {
		go done(cluster.Reply{Err: cluster.ErrUnavailable})
		return
	}
	go b.Receive(env.Message, done)
}

func (s side) Members() (all []cluster.Member) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for id, b := range s.p.node {
		m := cluster.Member{ID: id, Incarnation: b.incarnation, State: cluster.StateActive}
		if s.p.dead[id] {
			m.State = cluster.StateDead
		}
		all = append(all, m)
	}
	return all
}

func (p *pair) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func startPair(t *testing.T, d1, d2 *desk, change func(*Options)) (p *pair, one, two *Broker) {
	t.Helper()
	p = &pair{node: map[string]*Broker{}, dead: map[string]bool{}}
	store := newStore(t)
	open := func(node string, d *desk) *Broker {
		return start(t, d, func(o *Options) {
			o.Store, o.Cluster, o.Node, o.Incarnation = store, side{p}, node, 7
			if change != nil {
				change(o)
			}
		})
	}
	one, two = open("n1", d1), open("n2", d2)
	p.set(func() { p.node["n1"], p.node["n2"] = one, two })
	return p, one, two
}

// knows waits until a broker knows that somebody subscribes to a topic.
func knows(t *testing.T, b *Broker, topic string) {
	t.Helper()
	eventually(t, "a subscriber to "+topic, func() bool { return !b.audienceOf(topic).empty() })
}

func TestASessionGoesOnAtAnotherNode(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		d1, d2 := &desk{}, &desk{}
		p, one, two := startPair(t, d1, d2, nil)
		a := join(t, one, version, "a", stay)
		a.subscribe(1, 2, "to/a/#")
		knows(t, two, "to/a/x")
		pub := join(t, two, version, "pub", nil)
		for i, topic := range []string{"to/a/x", "to/a/y", "to/a/z"} {
			pub.publish(topic, topic, 2, uint16(i+1))
			pub.expect(packets.Pubrec)
			pub.pubrel(uint16(i + 1))
			pub.expect(packets.Pubcomp)
		}
		x, y := a.expect(packets.Publish), a.expect(packets.Publish)
		a.expect(packets.Publish)
		a.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: x.PacketID})
		a.expect(packets.Pubrel)
		a.publish("from/a", "once", 2, 5)
		a.expect(packets.Pubrec)

		p.set(func() { p.dead["n1"] = true }) // killed, and two is told before it could end anything
		b := plug(t, two)
		if ack := b.connect(version, "a", stay); !ack.SessionPresent {
			t.Fatal("no session")
		}
		if pk := b.expect(packets.Pubrel); pk.PacketID != x.PacketID {
			t.Fatalf("PUBREL of %d, want %d", pk.PacketID, x.PacketID)
		}
		b.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubcomp}, PacketID: x.PacketID})
		again := b.expect(packets.Publish)
		if again.PacketID != y.PacketID || again.TopicName != "to/a/y" || !again.FixedHeader.Dup {
			t.Fatalf("got %+v, want %d again", again, y.PacketID)
		}
		third := b.expect(packets.Publish)
		for _, id := range []uint16{again.PacketID, third.PacketID} {
			b.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: id})
			b.expect(packets.Pubrel)
			b.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubcomp}, PacketID: id})
		}
		eventually(t, "the queue is empty", func() bool { return stored(t, two, TableQueue) == 0 })
		b.publish("from/a", "once", 2, 5) // it has not seen PUBREC, for all we know
		b.expect(packets.Pubrec)
		b.pubrel(5)
		b.expect(packets.Pubcomp)
		b.publish("from/a", "anew", 2, 5)
		b.expect(packets.Pubrec)
		if got := d2.messages(); d1.count() != 1 || len(got) != 4 || string(got[3].Payload) != "anew" {
			t.Fatalf("the nodes delivered %d and %d", d1.count(), len(got))
		}
		pub.publish("to/a/x", "live", 1, 9)
		if pk := b.expect(packets.Publish); string(pk.Payload) != "live" || pk.FixedHeader.Dup {
			t.Fatalf("got %+v", pk)
		}
	})
}

func TestATakeoverByAnotherNode(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		d1, d2 := &desk{}, &desk{}
		_, one, two := startPair(t, d1, d2, nil)
		sub := join(t, two, version, "sub", nil)
		sub.subscribe(1, 1, "lwt")
		knows(t, one, "lwt")
		for i := range 10 {
			from, to, d := one, two, d1
			if i%2 == 1 {
				from, to, d = two, one, d2
			}
			before := d.count()
			first := join(t, from, version, "lamp", func(pk *packets.Packet) {
				pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "lwt", fmt.Append(nil, i)
			})
			second := join(t, to, version, "lamp", nil)
			if d.count() != before+1 { // before the new one is let in
				t.Fatalf("round %d: the handler got %d wills", i, d.count()-before)
			}
			if code := first.expectClosed(); version == 5 && code != 0x8e {
				t.Fatalf("DISCONNECT with %#x", code)
			}
			if pk := sub.expect(packets.Publish); string(pk.Payload) != fmt.Sprint(i) {
				t.Fatalf("round %d: the will is %+v", i, pk)
			}
			second.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
			second.expectClosed()
		}
		eventually(t, "one session", func() bool { return stored(t, one, TableSessions) == 1 })
	})
}

func TestTheClientsOfALostNode(t *testing.T) {
	d1, d2 := &desk{}, &desk{}
	p, one, two := startPair(t, d1, d2, nil)
	sub := join(t, two, 5, "sub", nil)
	sub.subscribe(1, 1, "lwt/#")
	knows(t, one, "lwt/x")
	const n = 20
	for i := range n {
		join(t, one, 5, fmt.Sprint("c", i), func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillRetain, pk.Connect.WillQos = true, fmt.Sprint("lwt/", i), []byte("lost"), true, 1
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = uint32(i%2), i%2 > 0 // a second, or none
		}).subscribe(1, 1, fmt.Sprint("to/", i))
	}
	knows(t, two, "to/1")
	if err := two.Publish("to/1", []byte("in vain"), 1, false); err != nil {
		t.Fatal(err)
	}
	p.set(func() { p.dead["n1"] = true })
	var got []string
	for range n {
		pk := sub.expect(packets.Publish)
		got = append(got, pk.TopicName)
		sub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	slices.Sort(got)
	if len(slices.Compact(got)) != n {
		t.Fatalf("wills of %q", got)
	}
	eventually(t, "their sessions are over", func() bool {
		return stored(t, two, TableSessions) == 1 && stored(t, two, TableQueue) == 0 && two.audienceOf("to/1").empty()
	})
	if got := stored(t, two, TableRetained); got != n || d2.count() != n {
		t.Fatalf("%d retained, %d delivered", got, d2.count())
	}
	sub.silent()
}

func TestAQueueNeedsNoLink(t *testing.T) {
	p, one, two := startPair(t, &desk{}, &desk{}, nil)
	keeps, live := join(t, two, 4, "keeps", stay), join(t, two, 4, "live", nil)
	keeps.subscribe(1, 1, "t")
	live.subscribe(1, 1, "t")
	eventually(t, "both are known", func() bool { return len(one.audienceOf("t").plain) == 2 })
	p.set(func() { p.cut = true })
	pub := join(t, one, 4, "pub", nil)
	pub.publish("t", "1", 1, 1)
	pub.expect(packets.Puback)
	live.silent()
	keeps.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	keeps.expect(packets.Pingresp)
	if pk := keeps.expect(packets.Publish); string(pk.Payload) != "1" {
		t.Fatalf("got %+v", pk)
	}
	p.set(func() { p.cut = false })
	if pk := live.expect(packets.Publish); string(pk.Payload) != "1" { // the link tries again
		t.Fatalf("got %+v", pk)
	}
	pub.publish("t", "2", 1, 2)
	pub.expect(packets.Puback)
	for _, c := range []*peer{keeps, live} {
		if pk := c.expect(packets.Publish); string(pk.Payload) != "2" {
			t.Fatalf("got %+v", pk)
		}
		c.silent()
	}
}

func TestSharedSubscriptionsOverNodes(t *testing.T) {
	_, one, two := startPair(t, &desk{}, &desk{}, nil)
	members := []*peer{join(t, one, 5, "a", nil), join(t, two, 5, "b", nil), join(t, two, 5, "c", stay)}
	for _, m := range members {
		m.subscribe(1, 1, "$share/g/t/#")
	}
	eventually(t, "all are known", func() bool {
		a := one.audienceOf("t/x")
		return len(a.groups) == 1 && len(a.groups[0].members) == 3
	})
	pub := join(t, one, 5, "pub", nil)
	for i := range 30 {
		pub.publish("t/x", fmt.Sprint(i), 1, uint16(i+1))
		pub.expect(packets.Puback)
	}
	var all []string
	for _, m := range members {
		for range 10 { // in turn
			pk := m.expect(packets.Publish)
			all = append(all, string(pk.Payload))
			m.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
		}
		m.silent()
	}
	slices.Sort(all)
	if len(slices.Compact(all)) != 30 {
		t.Fatalf("got %q", all)
	}
}

func TestWhatPromisesNothingLeavesTheStoreAlone(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	keeps, live, pub := join(t, b, 4, "keeps", stay), join(t, b, 4, "live", nil), join(t, b, 4, "pub", nil)
	keeps.subscribe(1, 0, "t")
	live.subscribe(1, 2, "t")
	b.writer.flush()
	before := b.store.AppliedIndex()
	for qos := range byte(3) {
		pub.publish("t", "x", qos, 1)
		keeps.expect(packets.Publish)
		live.expect(packets.Publish)
	}
	pub.expect(packets.Puback)
	pub.expect(packets.Pubrec)
	pub.pubrel(1)
	pub.expect(packets.Pubcomp)
	b.writer.flush()
	if now := b.store.AppliedIndex(); now != before {
		t.Fatalf("%d entries for messages that nobody keeps", now-before)
	}
}

// refusing is a store's proposer that has lost its quorum.
type refusing struct {
	storage.Proposer
	mu  sync.Mutex
	off bool
}

func (r *refusing) set(off bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.off = off
}

func (r *refusing) Propose(entry []byte, done func(any, error)) {
	r.mu.Lock()
	off := r.off
	r.mu.Unlock()
	if off {
		done(nil, errors.New("no quorum"))
		return
	}
	r.Proposer.Propose(entry, done)
}

func TestWithoutAQuorumNothingIsPromised(t *testing.T) {
	r := &refusing{}
	store := storagetest.OpenSingle(t, "data", vfs.NewMem(), storagetest.WithProposer(func(p storage.Proposer) storage.Proposer {
		r.Proposer = p
		return r
	}), storagetest.WithStore(func(o *storage.Options) { o.DiscardSamples, o.RetryFor = true, 100*time.Millisecond }))
	b := start(t, &desk{}, func(o *Options) { o.Store, o.Limits.CommitTimeout = store, 2*time.Second })
	keeps, live, pub := join(t, b, 5, "keeps", stay), join(t, b, 5, "live", nil), join(t, b, 5, "pub", nil)
	keeps.subscribe(1, 1, "t/keeps")
	live.subscribe(1, 1, "t/#")
	r.set(true)
	pub.publish("t/live", "0", 0, 0)
	live.expect(packets.Publish)
	if ack := plug(t, b).connect(5, "new", nil); ack.ReasonCode != 0x88 {
		t.Fatalf("CONNACK with %#x", ack.ReasonCode)
	}
	if ack := plug(t, b).connect(4, "new", nil); ack.ReasonCode != 3 {
		t.Fatalf("CONNACK with %#x", ack.ReasonCode)
	}
	pub.publish("t/keeps", "1", 1, 1)
	if code := pub.expectClosed(); code != 0x89 {
		t.Fatalf("DISCONNECT with %#x", code)
	}
	r.set(false)
	pub = join(t, b, 5, "pub", nil)
	pub.publish("t/keeps", "1", 1, 1)
	pub.expect(packets.Puback)
	if pk := keeps.expect(packets.Publish); string(pk.Payload) != "1" {
		t.Fatalf("got %+v", pk)
	}
}

func TestSubscriptionOptionsOfMQTT5(t *testing.T) {
	b := start(t, &desk{}, nil)
	p, other := join(t, b, 5, "p", nil), join(t, b, 5, "other", nil)
	sub := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1, Filters: packets.Subscriptions{
		{Filter: "a/#", Qos: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, Identifier: 7}}}
	sub.Properties.SubscriptionIdentifier = []int{7}
	retained := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: true}, TopicName: "a/b", Payload: []byte("kept")}
	other.send(retained)
	other.silent()
	p.send(sub)
	p.expect(packets.Suback)
	p.silent() // retained messages are not wanted
	p.publish("a/b", "my own", 0, 0)
	p.silent()
	other.send(retained)
	if pk := p.expect(packets.Publish); !pk.FixedHeader.Retain || !slices.Equal(pk.Properties.SubscriptionIdentifier, []int{7}) {
		t.Fatalf("got %+v", pk)
	}
	// A message that is too old is not sent, and one that is not says how long it is good.
	away := join(t, b, 5, "away", stay)
	away.subscribe(1, 1, "e")
	away.conn.Close()
	eventually(t, "it is away", func() bool { return b.Stats().Clients == 2 })
	for _, seconds := range []uint32{1, 100} {
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, TopicName: "e", Payload: fmt.Append(nil, seconds), PacketID: 1}
		pk.Properties.MessageExpiryInterval = seconds
		pk.Properties.ResponseTopic, pk.Properties.CorrelationData, pk.Mods.AllowResponseInfo = "answers/here", []byte{1, 2}, true
		other.send(pk)
		other.expect(packets.Puback)
	}
	time.Sleep(1100 * time.Millisecond)
	away = join(t, b, 5, "away", stay)
	pk := away.expect(packets.Publish)
	if left := pk.Properties.MessageExpiryInterval; string(pk.Payload) != "100" || left > 99 || left < 50 ||
		pk.Properties.ResponseTopic != "answers/here" || len(pk.Properties.CorrelationData) != 2 {
		t.Fatalf("got %+v", pk)
	}
	away.silent()
	if n := b.Stats(); n.Expired != 1 {
		t.Fatalf("stats %+v", n)
	}
	if ack := p.subscribe(3, 1, "$share/g/a/#", "$share/g+/a", "$share//a", "a/#/b", "$share/g/"); fmt.Sprintf("%x", ack.ReasonCodes) != "018f8f8f8f" {
		t.Fatalf("SUBACK %x", ack.ReasonCodes)
	}
}

func TestTheIndexFindsWhatFiltersCover(t *testing.T) {
	filters := strings.Fields("# + a a/# a/+ a/b +/b a/+/# +/+ /# $x/# $x/+ a/b/c +/+/c a//b //")
	var x index
	for _, f := range filters {
		x.add(&subscription{filter: f})
	}
	for _, topic := range strings.Fields("a b a/b a/c a/b/c a//b // / $x $x/y /a b/b x/y/c") {
		var got, want []string
		for _, s := range x.match(topic) {
			got = append(got, s.filter)
		}
		for _, f := range filters {
			if covers(f, topic) {
				want = append(want, f)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: found %q, want %q", topic, got, want)
		}
	}
	for _, s := range x.match("a/b/c") {
		x.remove(s)
	}
	if got := x.match("a/b/c"); len(got) > 0 {
		t.Errorf("removed, and found %v", got)
	}
}

// A will that nobody has taken yet is published by another node where its own is lost meanwhile.
func TestAWillOutlivesTheNodeThatHasYetToBringIt(t *testing.T) {
	for name, change := range map[string]func(*packets.Packet){"a session that ends": nil, "one that stays": stay} {
		t.Run(name, func(t *testing.T) {
			d1, d2 := &desk{answer: func(*Message) error { return errors.New("its twin has no owner") }}, &desk{}
			p, one, two := startPair(t, d1, d2, nil)
			lamp := join(t, one, 4, "lamp", func(pk *packets.Packet) {
				if change != nil {
					change(pk)
				}
				pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillQos = true, "lwt", []byte("lost"), 1
			})
			lamp.conn.Close()
			eventually(t, "the will is tried", func() bool { return d1.count() > 0 && one.connected("lamp") == nil })
			p.set(func() { p.dead["n1"] = true })
			eventually(t, "the will", func() bool { return d2.count() > 0 })
			if m := d2.messages()[0]; !m.Will || string(m.Payload) != "lost" {
				t.Fatalf("got %+v", m)
			}
			eventually(t, "it is settled", func() bool { return !hasWill(t, two, "lamp") })
		})
	}
}

func hasWill(t *testing.T, b *Broker, id string) bool {
	t.Helper()
	r, _, err := b.readSession(id)
	if err != nil {
		t.Fatal(err)
	}
	return r.GetWill() != nil
}
