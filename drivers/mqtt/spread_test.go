package mqtt

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/polluxhq/pollux/drivers"
)

func TestMessagesReachSubscribersToo(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		d := &desk{}
		b := start(t, d, nil)
		sub, pub := join(t, b, version, "sub", nil), join(t, b, version, "pub", nil)
		pub.publish("tele/1/STATE", "before", 1, 1)
		pub.expect(packets.Puback)
		sub.subscribe(1, 2, "tele/+/STATE")
		for qos := byte(0); qos <= 2; qos++ {
			pub.publish("tele/1/STATE", fmt.Sprint("at ", qos), qos, uint16(qos))
			pk := sub.expect(packets.Publish)
			if pk.TopicName != "tele/1/STATE" || string(pk.Payload) != fmt.Sprint("at ", qos) || pk.FixedHeader.Qos != qos {
				t.Fatalf("got %+v", pk)
			}
			switch qos {
			case 1:
				sub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
			case 2:
				sub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: pk.PacketID})
				sub.expect(packets.Pubrel)
				sub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubcomp}, PacketID: pk.PacketID})
			}
		}
		pub.expect(packets.Puback)
		pub.expect(packets.Pubrec)
		sub.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 9, Filters: packets.Subscriptions{{Filter: "tele/+/STATE"}},
		})
		if pk := sub.expect(packets.Unsuback); pk.PacketID != 9 {
			t.Fatalf("got %+v", pk)
		}
		pub.publish("tele/1/STATE", "after", 1, 1)
		pub.expect(packets.Puback)
		sub.silent()
		if n := b.Stats(); n.Out != [3]uint64{1, 1, 1} || d.count() != 5 {
			t.Fatalf("%d messages, stats %+v", d.count(), n)
		}
	})
}

func TestTheNodePublishes(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		d := &desk{}
		b := start(t, d, nil)
		sub := join(t, b, version, "sub", nil)
		sub.subscribe(1, 1, "cmnd/lamp/#")
		if err := b.Publish("cmnd/lamp/POWER", []byte("ON"), 1, false); err != nil {
			t.Fatal(err)
		}
		pk := sub.expect(packets.Publish)
		if pk.TopicName != "cmnd/lamp/POWER" || string(pk.Payload) != "ON" || pk.FixedHeader.Qos != 1 || pk.FixedHeader.Retain {
			t.Fatalf("got %+v", pk)
		}
		if err := b.Publish("cmnd/lamp/MODE", []byte("auto"), 0, true); err != nil {
			t.Fatal(err)
		}
		sub.expect(packets.Publish)
		late := join(t, b, version, "late", nil)
		late.subscribe(1, 1, "cmnd/#")
		if pk := late.expect(packets.Publish); string(pk.Payload) != "auto" || !pk.FixedHeader.Retain {
			t.Fatalf("got %+v", pk)
		}
		if n := b.Stats(); n.Published != 2 || n.Retained != 1 || n.Subscriptions != 2 || d.count() != 0 {
			t.Fatalf("%d messages, stats %+v", d.count(), n)
		}
		for _, bad := range []struct {
			topic   string
			payload int
			qos     byte
			want    error
		}{
			{"a/#", 0, 0, drivers.ErrInvalid}, {"", 0, 0, drivers.ErrInvalid}, {"a", 0, 3, drivers.ErrInvalid}, {"a", 1 << 20, 0, drivers.ErrTooLarge},
		} {
			if err := b.Publish(bad.topic, make([]byte, bad.payload), bad.qos, false); !errors.Is(err, bad.want) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	})
}

func TestRetainedMessages(t *testing.T) {
	d := &desk{}
	b := start(t, d, func(o *Options) { o.Limits.Retained = 2 })
	p := join(t, b, 4, "p", nil)
	retain := func(topic, payload string) {
		p.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, TopicName: topic, Payload: []byte(payload), PacketID: 1,
		})
		p.expect(packets.Puback)
	}
	retain("a", "1")
	retain("b", "2")
	retain("c", "3") // one too many
	retain("a", "4")
	if n := b.Stats(); n.Retained != 2 || n.Refused["retained"] != 1 || d.count() != 4 || !d.messages()[0].Retain {
		t.Fatalf("stats %+v", n)
	}
	s := join(t, b, 4, "s", nil)
	s.subscribe(1, 0, "a", "c")
	if pk := s.expect(packets.Publish); pk.TopicName != "a" || string(pk.Payload) != "4" || !pk.FixedHeader.Retain {
		t.Fatalf("got %+v", pk)
	}
	s.silent()
	retain("a", "")
	retain("c", "3")
	if n := b.Stats(); n.Retained != 2 || n.RetainedBytes == 0 {
		t.Fatalf("stats %+v", n)
	}
	retain("b", "")
	retain("c", "")
	if n := b.Stats(); n.Retained != 0 || n.RetainedBytes != 0 {
		t.Fatalf("stats %+v", n)
	}
	if got := stored(t, b, TableRetained); got != 0 {
		t.Fatalf("the store has %d", got)
	}
}

func TestRetainedMessagesAreFoundForALateTwin(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	p := join(t, b, 4, "lamp", nil)
	for _, topic := range []string{"tele/lamp/LWT", "tele/lamp/STATE", "tele/lamp2/LWT", "tele/lamp/a/b", "tele"} {
		p.send(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, TopicName: topic, Payload: []byte("at " + topic), PacketID: 1,
		})
		p.expect(packets.Puback)
	}
	for filter, want := range map[string][]string{
		"tele/lamp/LWT": {"tele/lamp/LWT"},
		"tele/+/LWT":    {"tele/lamp/LWT", "tele/lamp2/LWT"},
		"tele/lamp/#":   {"tele/lamp/LWT", "tele/lamp/STATE", "tele/lamp/a/b"},
		"tele/lamp/+":   {"tele/lamp/LWT", "tele/lamp/STATE"},
		"tele/none/#":   nil,
		"":              nil,
		"#":             {"tele", "tele/lamp/LWT", "tele/lamp/STATE", "tele/lamp/a/b", "tele/lamp2/LWT"},
	} {
		var got []string
		for _, m := range b.Retained(filter) {
			if !m.Retain || string(m.Payload) != "at "+m.Topic || m.Client != "lamp" || m.QoS != 1 {
				t.Errorf("%s: %+v", filter, m)
			}
			got = append(got, m.Topic)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", filter, got, want)
		}
	}
}

func TestWillsAreDeliveredAndForwarded(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		d := &desk{}
		b := start(t, d, nil)
		sub := join(t, b, version, "sub", nil)
		sub.subscribe(1, 1, "tele/+/LWT")
		sub.silent() // retained messages are looked for after the SUBACK
		will := func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "tele/lamp/LWT", []byte("Offline")
			pk.Connect.WillQos, pk.Connect.WillRetain = 1, true
		}
		p := join(t, b, version, "lamp", will)
		p.publish("tele/lamp/STATE", "last", 0, 0)
		p.conn.Close()
		if pk := sub.expect(packets.Publish); string(pk.Payload) != "Offline" || pk.TopicName != "tele/lamp/LWT" {
			t.Fatalf("got %+v", pk)
		}
		eventually(t, "message and will", func() bool { return d.count() == 2 })
		m := d.messages()[1]
		if !m.Will || m.Topic != "tele/lamp/LWT" || string(m.Payload) != "Offline" || !m.Retain || m.QoS != 1 || m.Client != "lamp" || m.Grant == nil {
			t.Fatalf("message %+v", m)
		}
		// A client that says goodbye has none; one that is taken over has.
		p = join(t, b, version, "lamp", will)
		p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
		p.expectClosed()
		sub.silent()
		join(t, b, version, "lamp", will)
		join(t, b, version, "lamp", will)
		eventually(t, "the will of the first", func() bool { return d.count() == 3 })
		if n := b.Stats(); n.Wills != 2 || n.Retained != 1 {
			t.Fatalf("stats %+v", n)
		}
	})
}

func TestADelayedWillIsNotLost(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	will := func(expiry, delay uint32) func(*packets.Packet) {
		return func(pk *packets.Packet) {
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = expiry, expiry > 0
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "lwt", []byte("off")
			pk.Connect.WillProperties.WillDelayInterval = delay
		}
	}
	join(t, b, 5, "short", will(0, 3600)).conn.Close() // the session ends with the connection, and so does the delay
	eventually(t, "the will", func() bool { return d.count() == 1 })
	join(t, b, 5, "long", will(60, 1)).conn.Close()
	began := time.Now()
	eventually(t, "the delayed will", func() bool { return d.count() == 2 })
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Fatalf("after %v", took)
	}
}

func TestAWillThatIsNotTakenIsTriedAgain(t *testing.T) {
	d := &desk{}
	tries := 0
	d.answer = func(*Message) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if tries++; tries < 3 {
			return errors.New("its slot is moving")
		}
		return nil
	}
	b := start(t, d, nil)
	sub := join(t, b, 5, "sub", nil)
	sub.subscribe(1, 1, "lwt")
	sub.silent()
	join(t, b, 5, "lamp", func(pk *packets.Packet) {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 60, true
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillQos = true, "lwt", []byte("off"), 1
		pk.Connect.WillProperties.WillDelayInterval = 1
	}).conn.Close()
	if pk := sub.expect(packets.Publish); string(pk.Payload) != "off" {
		t.Fatalf("got %+v", pk)
	}
	sub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: 1})
	has := func() bool {
		r, _, err := b.readSession("lamp")
		return err == nil && r != nil && r.Will != nil
	}
	for d.count() < 3 {
		if !has() && d.count() < 3 {
			t.Fatal("the record does not have the will any more, and nobody has taken it")
		}
		time.Sleep(10 * time.Millisecond)
	}
	eventually(t, "the record to be without it", func() bool { return !has() })
	sub.silent() // it had the will
	if n := b.Stats(); n.Wills != 1 || d.count() != 3 {
		t.Fatalf("stats %+v, %d times tried", n, d.count())
	}
}

func TestAWillOutlivesItsPublisher(t *testing.T) {
	store, first := newStore(t), &desk{hold: true}
	b := start(t, first, func(o *Options) { o.Store, o.Node, o.Incarnation = store, "n1", 7 })
	join(t, b, 5, "lamp", func(pk *packets.Packet) {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 60, true
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillQos = true, "lwt", []byte("off"), 1
		pk.Connect.WillProperties.WillDelayInterval = 1
	}).conn.Close()
	eventually(t, "the will to be on its way", func() bool { return first.count() == 1 })
	if err := b.Close(); err != nil { // nobody has taken it
		t.Fatal(err)
	}
	second := &desk{}
	b = start(t, second, func(o *Options) { o.Store, o.Node, o.Incarnation = store, "n1", 8 })
	eventually(t, "the next one to publish it", func() bool { return second.count() == 1 })
	eventually(t, "the record to be without it", func() bool {
		r, _, err := b.readSession("lamp")
		return err == nil && r != nil && r.Will == nil
	})
}

func TestAliasesAndPropertiesOfMQTT5(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	sub := join(t, b, 5, "sub", nil)
	sub.subscribe(1, 0, "#")
	p := plug(t, b)
	ack := p.connect(5, "p", nil)
	if ack.Properties.MaximumPacketSize != 256<<10 || ack.Properties.TopicAliasMaximum != topicAliases || ack.Properties.ReceiveMaximum != 1024 {
		t.Fatalf("CONNACK %+v", ack.Properties)
	}
	send := func(topic string, alias uint16) {
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: topic, Payload: []byte("x")}
		pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = alias, true
		pk.Properties.ContentType = "text/plain"
		pk.Properties.User = []packets.UserProperty{{Key: "k", Val: "v"}}
		p.send(pk)
	}
	send("a/b", 3)
	send("", 3)
	for range 2 {
		pk := sub.expect(packets.Publish)
		if pk.TopicName != "a/b" || pk.Properties.ContentType != "text/plain" || len(pk.Properties.User) != 1 || pk.Properties.TopicAliasFlag {
			t.Fatalf("got %+v", pk)
		}
	}
	send("", 4)
	if code := p.expectClosed(); code != 0x94 {
		t.Fatalf("DISCONNECT with %#x", code)
	}
	p = join(t, b, 5, "p", nil)
	send("c", topicAliases+1)
	p.expectClosed()
	if d.count() != 2 || d.messages()[1].Topic != "a/b" {
		t.Fatalf("%d messages", d.count())
	}
}

func TestReceiveMaximumOfTheClientHolds(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	sub := join(t, b, 5, "sub", func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = 2 })
	sub.subscribe(1, 1, "#")
	for i := range 10 {
		if err := b.Publish("t", []byte{byte('0' + i)}, 1, false); err != nil {
			t.Fatal(err)
		}
	}
	first, second := sub.expect(packets.Publish), sub.expect(packets.Publish)
	sub.silent()
	ack := func(pk packets.Packet) {
		sub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	got := string(first.Payload) + string(second.Payload)
	ack(first)
	ack(first) // twice: no more room by that
	third := sub.expect(packets.Publish)
	sub.silent()
	got += string(third.Payload)
	for open := []packets.Packet{second, third}; len(got) < 10; {
		ack(open[0])
		pk := sub.expect(packets.Publish)
		got += string(pk.Payload)
		open = append(open[1:], pk)
	}
	if got != "0123456789" {
		t.Fatalf("got %s", got)
	}
}

func TestIDsOfBothDirectionsAreApart(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	p := join(t, b, 4, "p", nil)
	p.subscribe(1, 1, "to/p")
	if err := b.Publish("to/p", []byte("x"), 1, false); err != nil {
		t.Fatal(err)
	}
	pk := p.expect(packets.Publish) // not acknowledged yet
	if ack := p.subscribe(pk.PacketID, 1, "more"); ack.ReasonCodes[0] != 1 {
		t.Fatalf("SUBACK %v", ack.ReasonCodes)
	}
	p.publish("from/p", "y", 2, pk.PacketID)
	p.expect(packets.Pubrec)
	p.pubrel(pk.PacketID)
	p.expect(packets.Pubcomp)
	p.publish("from/p", "y", 1, pk.PacketID)
	p.expect(packets.Puback)
	s := b.connected("p")
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.flights) != 1 {
		t.Fatal("the client's own messages touched what it has not acknowledged")
	}
}

func TestUndeliveredMessagesWaitForAClientThatComesBack(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		d := &desk{}
		b := start(t, d, nil)
		p := join(t, b, version, "p", stay)
		p.subscribe(1, 1, "to/p")
		p.conn.Close()
		eventually(t, "it is gone", func() bool { return b.Stats().Clients == 0 })
		for i := range 3 {
			if err := b.Publish("to/p", fmt.Append(nil, i), 1, false); err != nil {
				t.Fatal(err)
			}
		}
		p = plug(t, b)
		if ack := p.connect(version, "p", stay); !ack.SessionPresent {
			t.Fatal("no session")
		}
		var got strings.Builder
		for range 3 {
			got.Write(p.expect(packets.Publish).Payload)
		}
		if got.String() != "012" {
			t.Fatalf("got %s", got.String())
		}
	})
}

func TestASessionThatExpiresLeavesNothing(t *testing.T) {
	d := &desk{}
	b := start(t, d, func(o *Options) { o.Limits.SessionExpiry = time.Second })
	p := join(t, b, 4, "p", stay)
	p.subscribe(1, 1, "to/p")
	p.publish("t", "x", 2, 1)
	p.expect(packets.Pubrec)
	p.conn.Close()
	eventually(t, "nothing is left", func() bool {
		n := b.Stats()
		b.mu.Lock()
		defer b.mu.Unlock()
		return n.Sessions == 0 && n.Subscriptions == 0 && len(b.held) == 0 && b.audienceOf("to/p").empty() && stored(t, b, TableSessions)+stored(t, b, TableReceived) == 0
	})
}
