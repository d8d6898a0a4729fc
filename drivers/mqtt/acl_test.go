package mqtt

import (
	"errors"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		granted, filter string
		want            bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/c", false}, {"a/b", "a", false}, {"a", "a/b", false},
		{"a/+", "a/b", true}, {"a/+", "a/+", true}, {"a/+", "a", false}, {"a/+", "a/b/c", false}, {"a/+", "a/#", false},
		{"a/#", "a", true}, {"a/#", "a/b/c", true}, {"a/#", "a/+/c", true}, {"a/#", "a/#", true}, {"a/#", "ab", false},
		{"#", "a", true}, {"#", "a/b", true}, {"#", "#", true}, {"#", "+", true}, {"#", "+/a", true}, {"#", "$SYS/x", false},
		{"+", "a", true}, {"+", "#", false}, {"+", "$x", false}, {"+/+", "a/b", true}, {"a/b", "a/+", false},
		{"a/+/c", "a/b/c", true}, {"a/+/c", "a/#", false}, {"a//b", "a//b", true}, {"a/+/b", "a//b", true}, {"/#", "/", true},
		{"/#", "/a", true}, {"/#", "a", false}, {"$x/#", "$x/y", true}, {"", "a", false}, {"a", "", false},
		{"tele/lamp/#", "tele/lamp2/x", false}, {"+/lamp/#", "tele/lamp", true}, {"+/lamp/#", "+/lamp/STATE", true}, {"+/lamp/#", "#", false},
	} {
		if got := covers(c.granted, c.filter); got != c.want {
			t.Errorf("%q covers %q: %v", c.granted, c.filter, got)
		}
	}
}

// FuzzCovers holds the meaning: whatever the filter matches, the granted filter matches, too.
func FuzzCovers(f *testing.F) {
	f.Add("a/+/#", "a/b/+", "a/b/c")
	f.Add("#", "$x", "$x")
	f.Add("a/#", "a", "a")
	f.Fuzz(func(t *testing.T, granted, filter, topic string) {
		if strings.ContainsAny(topic, "+#") || !validFilter(granted) || !validFilter(filter) {
			return
		}
		if covers(granted, filter) && covers(filter, topic) && !covers(granted, topic) {
			t.Fatalf("%q is said to cover %q, but not its topic %q", granted, filter, topic)
		}
	})
}

func validFilter(f string) bool {
	levels := strings.Split(f, "/")
	for i, l := range levels {
		if strings.ContainsAny(l, "+#") && len(l) > 1 || l == "#" && i < len(levels)-1 {
			return false
		}
	}
	return f != ""
}

func TestADeviceHasItsOwnTopicsOnly(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		d := &desk{grants: map[string]Grant{
			"lamp":  {Project: "default", Twin: "lamp", Topics: []string{"both/lamp"}, Publish: []string{"tele/lamp/#"}, Subscribe: []string{"cmnd/lamp/#"}},
			"admin": {Admin: true},
		}}
		b := start(t, d, func(o *Options) { o.AllowAnonymous = false })
		p := join(t, b, version, "lamp", login("lamp", "secret"))
		p.publish("tele/lamp/STATE", "{}", 1, 1)
		p.expect(packets.Puback)
		p.publish("both/lamp", "{}", 1, 1)
		p.expect(packets.Puback)
		p.publish("tele/other/STATE", "{}", 0, 0)
		p.silent()
		ack := p.subscribe(1, 1, "cmnd/lamp/POWER", "cmnd/+/POWER", "#", "$share/g/cmnd/lamp/+", "$share/g/#", "tele/lamp/#", "both/lamp")
		for i, want := range []bool{true, false, false, true, false, false, true} {
			if got := ack.ReasonCodes[i] < 0x80; got != want {
				t.Errorf("filter %d: code %#x", i, ack.ReasonCodes[i])
			}
		}
		p.publish("tele/other/STATE", "{}", 1, 2)
		if version == 5 {
			if pk := p.expect(packets.Puback); pk.ReasonCode != 0x87 {
				t.Fatalf("got %+v", pk)
			}
			p.publish("cmnd/lamp/POWER", "{}", 2, 3)
			if pk := p.expect(packets.Pubrec); pk.ReasonCode != 0x87 {
				t.Fatalf("got %+v", pk)
			}
		} else {
			// 3.1.1 cannot say it. The connection stays, and so do its good topics.
			p.expect(packets.Puback)
			p.publish("cmnd/lamp/POWER", "{}", 2, 3)
			p.expect(packets.Pubrec)
			p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: 3})
			p.expect(packets.Pubcomp)
			p.publish("$SYS/x", "{}", 1, 4)
			p.expect(packets.Puback)
		}
		p.publish("tele/lamp/STATE", "{}", 1, 5)
		p.expect(packets.Puback)
		admin := join(t, b, version, "admin", login("admin", "secret"))
		admin.subscribe(1, 1, "#")
		admin.publish("tele/other/STATE", "{}", 1, 2)
		eventually(t, "four messages", func() bool { return d.count() == 4 })
		if n := b.Stats(); n.Refused["not_authorized"] != 3 || n.Refused["subscribe"] != 4 {
			t.Fatalf("stats %+v", n)
		}
		for _, m := range d.messages()[:2] {
			if m.User != "lamp" || m.Grant.Twin != "lamp" || m.Grant.Project != "default" {
				t.Fatalf("message %+v of %+v", m, m.Grant)
			}
		}
	})
}

func TestWhoIsNotLetIn(t *testing.T) {
	d := &desk{grants: map[string]Grant{"lamp": {Topics: []string{"lamp/#"}}, "other": {Topics: []string{"#"}}, "admin": {Admin: true}}}
	b := start(t, d, func(o *Options) { o.AllowAnonymous = false; o.Limits.Sessions = 3 })
	join(t, b, 4, "taken", login("lamp", "secret"))
	will := func(topic string) func(*packets.Packet) {
		return func(pk *packets.Packet) {
			login("lamp", "secret")(pk)
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, topic, []byte("off")
		}
	}
	for reason, c := range map[string]struct {
		id     string
		change func(*packets.Packet)
	}{
		"anonymous":   {"a", nil},
		"credentials": {"a", login("lamp", "wrong")},
		"client_id":   {"taken", login("other", "secret")},
		"will":        {"a", will("other/lwt")},
	} {
		versions(t, func(t *testing.T, version byte) {
			p := plug(t, b)
			want := map[byte]byte{4: 5, 5: 0x86}[version]
			if ack := p.connect(version, c.id, c.change); ack.ReasonCode != want {
				t.Fatalf("%s: CONNACK with %#x, want %#x", reason, ack.ReasonCode, want)
			}
			p.expectClosed()
		})
		if n := b.Stats(); n.TurnedAway[reason] != 2 || n.Clients != 1 {
			t.Fatalf("%s: stats %+v", reason, n)
		}
	}
	if ack := plug(t, b).connect(4, strings.Repeat("x", 300), login("lamp", "secret")); ack.ReasonCode == 0 {
		t.Fatal("a long client id is let in")
	}
	if ack := plug(t, b).connect(4, "a", will("$SYS/x")); ack.ReasonCode == 0 {
		t.Fatal("a will on $SYS is let in")
	}
	join(t, b, 4, "taken", login("admin", "secret"))
	join(t, b, 4, "b", login("lamp", "secret"))
	join(t, b, 4, "c", login("lamp", "secret"))
	if ack := plug(t, b).connect(4, "d", login("lamp", "secret")); ack.ReasonCode == 0 {
		t.Fatal("more sessions than allowed")
	}
	eventually(t, "no handshake under way", func() bool { return b.Stats().Connecting == 0 })
}

func TestTopicsThatNobodyMayPublishTo(t *testing.T) {
	d := &desk{}
	b := start(t, d, func(o *Options) { o.Limits.TopicLevels = 4; o.Limits.TopicBytes = 50 })
	p := join(t, b, 5, "a", nil)
	for _, topic := range []string{"$SYS/broker", "$share/x/y", "a/b/c/d/e", strings.Repeat("x", 51)} {
		p.publish(topic, "x", 1, 1)
		if pk := p.expect(packets.Puback); pk.ReasonCode != 0x90 {
			t.Fatalf("%s: got %+v", topic, pk)
		}
		if err := b.Publish(topic, nil, 0, false); !errors.Is(err, ErrTopic) {
			t.Fatalf("%s: published: %v", topic, err)
		}
	}
	if ack := p.subscribe(1, 0, "a/b/c/d/e", strings.Repeat("x", 51), "a/b/c/#"); ack.ReasonCodes[0] < 0x80 || ack.ReasonCodes[1] < 0x80 || ack.ReasonCodes[2] != 0 {
		t.Fatalf("SUBACK %v", ack.ReasonCodes)
	}
	if d.count() != 0 {
		t.Fatal("delivered")
	}
}
