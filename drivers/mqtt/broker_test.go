package mqtt

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// desk is a handler that keeps messages and answers as it is told.
type desk struct {
	mu     sync.Mutex
	got    []*Message
	dones  []func(error)
	n      int
	forget bool                   // keep no messages, count them
	hold   bool                   // keep done until release
	answer func(m *Message) error // nil: committed
	grants map[string]Grant       // by user; the password is "secret"
}

func (d *desk) Deliver(m *Message, done func(error)) {
	d.mu.Lock()
	d.n++
	if !d.forget {
		d.got = append(d.got, m)
	}
	hold := d.hold
	if hold {
		d.dones = append(d.dones, done)
	}
	answer := d.answer
	d.mu.Unlock()
	if hold {
		return
	}
	if answer != nil {
		done(answer(m))
		return
	}
	done(nil)
}

func (d *desk) Authenticate(_, user string, password []byte) (Grant, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g, ok := d.grants[user]
	if !ok || string(password) != "secret" {
		return Grant{}, errors.New("wrong password")
	}
	return g, nil
}

func (d *desk) messages() []*Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*Message(nil), d.got...)
}

func (d *desk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

func (d *desk) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// take gives the dones that are held, which stay held otherwise.
func (d *desk) take() []func(error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dones := d.dones
	d.dones = nil
	return dones
}

// newStore is a real store on a disk in memory.
func newStore(t testing.TB) *storage.Store {
	t.Helper()
	return storagetest.OpenSingle(t, "data", vfs.NewMem(), storagetest.WithStore(func(o *storage.Options) { o.DiscardSamples = true }))
}

func start(t *testing.T, d *desk, change func(*Options)) *Broker {
	t.Helper()
	o := Options{Addr: "127.0.0.1:0", Handler: d, AllowAnonymous: true}
	o.Store = newStore(t)
	if change != nil {
		change(&o)
	}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if n := b.Stats(); n.DoneTwice > 0 || n.Panics > 0 {
			t.Errorf("stats: %+v", n)
		}
	})
	return b
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// peer is a client that sends what it is told, byte for byte.
type peer struct {
	t       *testing.T
	conn    net.Conn
	r       *bufio.Reader
	version byte
}

func plug(t *testing.T, b *Broker) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &peer{t: t, conn: conn, r: bufio.NewReader(conn), version: 4}
}

// join connects with a CONNECT that change may alter and expects to be let in.
func join(t *testing.T, b *Broker, version byte, id string, change func(*packets.Packet)) *peer {
	t.Helper()
	p := plug(t, b)
	ack := p.connect(version, id, change)
	if ack.ReasonCode != 0 {
		t.Fatalf("CONNACK with code %#x", ack.ReasonCode)
	}
	return p
}

func (p *peer) connect(version byte, id string, change func(*packets.Packet)) packets.Packet {
	p.t.Helper()
	p.version = version
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: version,
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, Keepalive: 60, ClientIdentifier: id},
	}
	if change != nil {
		change(&pk)
	}
	p.send(pk)
	return p.expect(packets.Connack)
}

func login(user, password string) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		pk.Connect.UsernameFlag, pk.Connect.PasswordFlag = true, true
		pk.Connect.Username, pk.Connect.Password = []byte(user), []byte(password)
	}
}

func (p *peer) send(pk packets.Packet) {
	p.t.Helper()
	pk.ProtocolVersion = p.version
	var buf bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&buf)
	case packets.Publish:
		err = pk.PublishEncode(&buf)
	case packets.Puback:
		err = pk.PubackEncode(&buf)
	case packets.Pubrec:
		err = pk.PubrecEncode(&buf)
	case packets.Pubrel:
		pk.FixedHeader.Qos = 1
		err = pk.PubrelEncode(&buf)
	case packets.Pubcomp:
		err = pk.PubcompEncode(&buf)
	case packets.Subscribe:
		pk.FixedHeader.Qos = 1
		err = pk.SubscribeEncode(&buf)
	case packets.Unsubscribe:
		pk.FixedHeader.Qos = 1
		err = pk.UnsubscribeEncode(&buf)
	case packets.Pingreq:
		err = pk.PingreqEncode(&buf)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&buf)
	default:
		err = fmt.Errorf("type %d", pk.FixedHeader.Type)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.raw(buf.Bytes())
}

func (p *peer) raw(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

func (p *peer) publish(topic, payload string, qos byte, id uint16) {
	p.t.Helper()
	p.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, Payload: []byte(payload), PacketID: id,
	})
}

func (p *peer) pubrel(id uint16) {
	p.t.Helper()
	p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel}, PacketID: id})
}

func (p *peer) subscribe(id uint16, qos byte, filters ...string) packets.Packet {
	p.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: id}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: qos})
	}
	p.send(pk)
	ack := p.expect(packets.Suback)
	if ack.PacketID != id {
		p.t.Fatalf("SUBACK for %d, want %d", ack.PacketID, id)
	}
	return ack
}

// next reads one packet.
func (p *peer) next() (pk packets.Packet, err error) {
	first, err := p.r.ReadByte()
	if err != nil {
		return pk, err
	}
	if err = pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	length, _, err := packets.DecodeLength(p.r)
	if err != nil {
		return pk, err
	}
	body := make([]byte, length)
	for n := 0; n < length; {
		k, err := p.r.Read(body[n:])
		if err != nil {
			return pk, err
		}
		n += k
	}
	pk.FixedHeader.Remaining, pk.ProtocolVersion = length, p.version
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Pubrec:
		err = pk.PubrecDecode(body)
	case packets.Pubrel:
		err = pk.PubrelDecode(body)
	case packets.Pubcomp:
		err = pk.PubcompDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Disconnect:
		if length > 0 {
			pk.ReasonCode = body[0]
		}
	}
	return pk, err
}

func (p *peer) expect(kind byte) packets.Packet {
	p.t.Helper()
	pk, err := p.next()
	if err != nil {
		p.t.Fatalf("waiting for packet %d: %v", kind, err)
	}
	if pk.FixedHeader.Type != kind {
		p.t.Fatalf("got packet %d %q %q, want one of type %d", pk.FixedHeader.Type, pk.TopicName, pk.Payload, kind)
	}
	return pk
}

// expectClosed wants the connection to end without a further packet but a DISCONNECT, whose code it gives.
func (p *peer) expectClosed() (code byte) {
	p.t.Helper()
	for {
		pk, err := p.next()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				p.t.Fatal("the connection stays open")
			}
			return code
		}
		if pk.FixedHeader.Type != packets.Disconnect {
			p.t.Fatalf("got %+v, want the end", pk)
		}
		code = pk.ReasonCode
	}
}

// silent wants that nothing comes: a PINGREQ is answered first.
func (p *peer) silent() {
	p.t.Helper()
	p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	p.expect(packets.Pingresp)
}

func versions(t *testing.T, f func(t *testing.T, version byte)) {
	for _, v := range []byte{4, 5} {
		t.Run(map[byte]string{4: "3.1.1", 5: "5"}[v], func(t *testing.T) { f(t, v) })
	}
}

func TestAcknowledgedOnlyWhenDoneAndInOrder(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		d := &desk{hold: true}
		b := start(t, d, nil)
		p := join(t, b, version, "a", nil)
		p.publish("t/1", "one", 1, 7)
		p.publish("t/2", "two", 2, 8)
		p.publish("t/3", "three", 1, 9)
		eventually(t, "three messages", func() bool { return d.count() == 3 })
		p.silent()
		dones := d.take()
		dones[2](nil)
		dones[1](nil)
		p.silent() // the first is not done
		dones[0](nil)
		if pk := p.expect(packets.Puback); pk.PacketID != 7 || pk.ReasonCode != 0 {
			t.Fatalf("got %+v", pk)
		}
		if pk := p.expect(packets.Pubrec); pk.PacketID != 8 || pk.ReasonCode != 0 {
			t.Fatalf("got %+v", pk)
		}
		if pk := p.expect(packets.Puback); pk.PacketID != 9 {
			t.Fatalf("got %+v", pk)
		}
		p.pubrel(8)
		if pk := p.expect(packets.Pubcomp); pk.PacketID != 8 || pk.ReasonCode != 0 {
			t.Fatalf("got %+v", pk)
		}
		m := d.messages()[1]
		if m.Topic != "t/2" || string(m.Payload) != "two" || m.QoS != 2 || m.Client != "a" || m.Will || m.Retain || m.Grant == nil {
			t.Fatalf("message %+v", m)
		}
		if n := b.Stats(); n.In != [3]uint64{0, 2, 1} || n.PendingBytes != 0 || n.Clients != 1 {
			t.Fatalf("stats %+v", n)
		}
	})
}

func TestRefusals(t *testing.T) {
	d := &desk{answer: func(m *Message) error { return fmt.Errorf("twin: %w", ErrInvalid) }}
	b := start(t, d, nil)
	old, new := join(t, b, 4, "old", nil), join(t, b, 5, "new", nil)
	old.publish("t", "x", 1, 1)
	if pk := old.expect(packets.Puback); pk.PacketID != 1 {
		t.Fatalf("got %+v", pk)
	}
	new.publish("t", "x", 1, 1)
	if pk := new.expect(packets.Puback); pk.ReasonCode != 0x99 || pk.Properties.ReasonString != "twin: invalid payload" {
		t.Fatalf("got %+v", pk)
	}
	terse := join(t, b, 5, "terse", func(pk *packets.Packet) { pk.Properties.RequestProblemInfoFlag = true })
	terse.publish("t", "x", 1, 1)
	if pk := terse.expect(packets.Puback); pk.ReasonCode != 0x99 || pk.Properties.ReasonString != "" {
		t.Fatalf("got %+v", pk)
	}
	new.publish("t", "x", 2, 2)
	if pk := new.expect(packets.Pubrec); pk.ReasonCode != 0x99 {
		t.Fatalf("got %+v", pk)
	}
	new.publish("t", "y", 2, 2) // refused: the id is free again, without PUBREL
	new.expect(packets.Pubrec)
	if n := b.Stats(); n.Refused["invalid"] != 5 || d.count() != 5 {
		t.Fatalf("%d messages, stats %+v", d.count(), n)
	}
	d.set(func() { d.answer = func(*Message) error { return ErrUnowned } })
	new.publish("t", "x", 1, 1)
	if pk := new.expect(packets.Puback); pk.ReasonCode != 0x10 || pk.Properties.ReasonString != "" { // a kind of success
		t.Fatalf("got %+v", pk)
	}
	long := strings.Repeat("ü", longestReason)
	d.set(func() { d.answer = func(*Message) error { return fmt.Errorf("%s: %w", long, ErrRefused) } })
	new.publish("t", "x", 1, 1)
	why := new.expect(packets.Puback).Properties.ReasonString
	if len(why) > longestReason || !strings.HasPrefix(long, strings.TrimSuffix(why, "…")) || !strings.HasSuffix(why, "ü…") {
		t.Fatalf("got %q", why)
	}
	name := strings.Repeat("x", maxClientID+1)
	if ack := plug(t, b).connect(5, name, nil); ack.ReasonCode != packets.ErrClientIdentifierNotValid.Code || !strings.HasPrefix(ack.Properties.ReasonString, "client id of ") {
		t.Fatalf("got %+v", ack)
	}
	for _, alias := range []byte{0, topicAliases + 1} {
		p := join(t, b, 5, "aliases", nil)
		if _, err := p.conn.Write([]byte{packets.Publish << 4, 7, 0, 1, 't', 3, 0x23, 0, alias}); err != nil {
			t.Fatal(err)
		}
		if code := p.expectClosed(); code != packets.ErrTopicAliasInvalid.Code {
			t.Fatalf("alias %d: DISCONNECT with %#x", alias, code)
		}
	}
}

func TestNotCommittedIsNotAcknowledgedAndComesAgain(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		for qos := byte(1); qos <= 2; qos++ {
			d := &desk{answer: func(*Message) error { return errors.New("disk full") }}
			b := start(t, d, nil)
			stay := func(pk *packets.Packet) { pk.Connect.Clean = false }
			p := join(t, b, version, "a", stay)
			p.publish("t", "x", qos, 1)
			if code := p.expectClosed(); version == 5 && code != 0x89 {
				t.Fatalf("DISCONNECT with %#x", code)
			}
			d.set(func() { d.answer = nil })
			p = join(t, b, version, "a", stay)
			p.publish("t", "x", qos, 1)
			if qos == 1 {
				p.expect(packets.Puback)
			} else {
				p.expect(packets.Pubrec)
			}
			if d.count() != 2 {
				t.Fatalf("QoS %d: delivered %d times", qos, d.count())
			}
			eventually(t, "the count", func() bool { return b.Stats().Closed["not_committed"] == 1 })
			if n := b.Stats(); n.Refused["unavailable"] != 1 || n.PendingBytes != 0 {
				t.Fatalf("stats %+v", n)
			}
		}
	})
}

func TestDoneTwiceIsCountedAndHarmless(t *testing.T) {
	d := &desk{hold: true}
	b, err := Open(Options{Addr: "127.0.0.1:0", Store: newStore(t), Handler: d, AllowAnonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p := join(t, b, 4, "a", nil)
	p.publish("t", "x", 1, 1)
	p.publish("t", "x", 1, 2)
	eventually(t, "two messages", func() bool { return d.count() == 2 })
	dones := d.take()
	dones[0](nil)
	dones[0](nil)
	p.expect(packets.Puback)
	p.silent()
	dones[1](nil)
	p.expect(packets.Puback)
	if n := b.Stats(); n.DoneTwice != 1 || n.PendingBytes != 0 {
		t.Fatalf("stats %+v", n)
	}
}

func TestClientsAreListedAndDisconnected(t *testing.T) {
	d := &desk{grants: map[string]Grant{"key1": {Project: "default", Twin: "lamp", Topics: []string{"lamp/#"}}}}
	b := start(t, d, nil)
	p := join(t, b, 5, "lamp-1", login("key1", "secret"))
	join(t, b, 4, "other", nil)
	eventually(t, "two clients", func() bool { return len(b.Clients()) == 2 })
	var found *Client
	for _, c := range b.Clients() {
		if c.ID == "lamp-1" {
			found = &c
		}
	}
	if found == nil || found.User != "key1" || found.Version != 5 || found.Grant.Twin != "lamp" ||
		found.Remote != p.conn.LocalAddr().String() || time.Since(found.Since) > time.Minute {
		t.Fatalf("client %+v", found)
	}
	if n := b.Disconnect(func(c Client) bool { return c.User == "key1" }); n != 1 {
		t.Fatalf("disconnected %d", n)
	}
	if code := p.expectClosed(); code != 0x98 {
		t.Fatalf("DISCONNECT with %#x", code)
	}
	eventually(t, "one client", func() bool { return len(b.Clients()) == 1 })
}

func TestCloseSaysGoodbyeAndKeepsWills(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	will := func(pk *packets.Packet) {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "lwt", []byte("offline")
	}
	p := join(t, b, 5, "a", will)
	join(t, b, 4, "b", will)
	plug(t, b) // has sent nothing
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if code := p.expectClosed(); code != 0x8b {
		t.Fatalf("DISCONNECT with %#x", code)
	}
	if d.count() != 0 {
		t.Fatalf("the end of the node delivered wills: %+v", d.messages()[0])
	}
	if err := b.Publish("t", nil, 0, false); !errors.Is(err, ErrClosed) {
		t.Fatalf("publish after close: %v", err)
	}
	if _, err := net.Dial("tcp", b.Addr().String()); err == nil {
		t.Fatal("still listening")
	}
}

func TestOpenChecksItsOptions(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	for want, o := range map[string]Options{
		"no handler":             {Addr: "127.0.0.1:0"},
		"no store":               {Addr: "127.0.0.1:0", Handler: d},
		"address already in use": {Addr: b.Addr().String(), Handler: d, Store: b.store},
		"limit of unacked: -1":   {Addr: "127.0.0.1:0", Handler: d, Store: b.store, Limits: Limits{Unacked: -1}},
		"limit of write timeout": {Addr: "127.0.0.1:0", Handler: d, Store: b.store, Limits: Limits{WriteTimeout: -time.Second}},
	} {
		if _, err := Open(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something with %q", err, want)
		}
	}
}
