package mqtt

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/polluxhq/pollux/storage"
)

// heap after a collection, in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestHugePacketsAreRefusedByTheirHeader(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	huge := []byte{0xff, 0xff, 0xff, 0x7f} // 256 MiB, the most that the protocol can say
	p := plug(t, b)
	p.raw(append([]byte{packets.Connect << 4}, huge...))
	p.expectClosed()
	for _, first := range []byte{0x30, 0x32, 0x82, 0xa2, 0xc0, 0x62} {
		p = join(t, b, 5, "a", nil)
		p.raw(append([]byte{first}, huge...))
		if code := p.expectClosed(); code != 0x95 {
			t.Fatalf("packet %#x: DISCONNECT with %#x", first, code)
		}
	}
	// One gigabyte in packets that are just too large, as fast as it goes.
	for range 4 {
		p = join(t, b, 4, "a", nil)
		body := bytes.Repeat([]byte{'x'}, 1<<20)
		for range 256 {
			if _, err := p.conn.Write(append([]byte{0x30, 0x80, 0x80, 0x40, 0, 1, 't'}, body...)); err != nil {
				break
			}
		}
	}
	eventually(t, "the counts", func() bool { return b.Stats().Closed["too_large"] == 11 })
	if d.count() != 0 {
		t.Fatal("delivered")
	}
}

func TestPromisedBytesCostNothing(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	before := heap()
	const n = 200
	for i := range n {
		p := join(t, b, 4, fmt.Sprint("c", i), nil)
		p.raw([]byte{0x30, 0xff, 0xff, 0x0f, 0, 1, 't'}) // 256 KiB to come
	}
	for range n {
		plug(t, b).raw([]byte{0x10, 0x80, 0x7f, 0}) // and a CONNECT of 16 KiB
	}
	eventually(t, "all are there", func() bool { return b.Stats().Connecting == n })
	if grown := int64(heap()) - int64(before); grown > n*64<<10 {
		t.Fatalf("%d bytes for each pair of connections", grown/n)
	}
}

func TestMalformedPacketsCloseTheirConnection(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	for name, raw := range map[string][]byte{
		"length of five bytes":     {0x30, 0xff, 0xff, 0xff, 0xff, 1},
		"QoS 3":                    {0x36, 5, 0, 1, 't', 0, 1},
		"duplicate of QoS 0":       {0x38, 3, 0, 1, 't'},
		"no packet id":             {0x32, 3, 0, 1, 't'},
		"packet id of 0":           {0x32, 5, 0, 1, 't', 0, 0},
		"topic beyond the packet":  {0x30, 3, 0, 9, 't'},
		"no topic":                 {0x30, 2, 0, 0},
		"empty PUBLISH":            {0x30, 0},
		"wildcard":                 {0x30, 5, 0, 3, 'a', '/', '#'},
		"zero byte":                {0x30, 4, 0, 2, 'a', 0},
		"no UTF-8":                 {0x30, 4, 0, 2, 0xc3, 0x28},
		"second CONNECT":           {0x10, 0},
		"reserved packet type":     {0x00, 0},
		"a server's packet":        {0x20, 2, 0, 0},
		"PUBREL without flags":     {0x60, 2, 0, 1},
		"PUBREL of nothing":        {0x62, 0},
		"PUBACK of nothing":        {0x40, 0},
		"SUBSCRIBE of nothing":     {0x82, 0},
		"SUBSCRIBE of no filter":   {0x82, 2, 0, 1},
		"SUBSCRIBE beyond its end": {0x82, 5, 0, 1, 0xff, 0xff, 'a'},
		"UNSUBSCRIBE of nothing":   {0xa2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := join(t, b, 4, "a", nil)
			p.raw(raw)
			p.expectClosed()
		})
	}
	for name, raw := range map[string][]byte{
		"properties beyond the packet": {0x30, 5, 0, 1, 't', 9, 0},
		"no properties":                {0x30, 3, 0, 1, 't'},
		"unknown property":             {0x30, 6, 0, 1, 't', 2, 0x7f, 0},
		"alias of 0":                   {0x30, 7, 0, 1, 't', 3, 0x23, 0, 0},
		"subscription id":              {0x30, 6, 0, 1, 't', 2, 0x0b, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := join(t, b, 5, "a", nil)
			p.raw(raw)
			if code := p.expectClosed(); code < 0x80 {
				t.Fatalf("DISCONNECT with %#x", code)
			}
		})
	}
	t.Run("before CONNECT", func(t *testing.T) {
		for _, raw := range []string{"GET / HTTP/1.1\r\n\r\n", "\x30\x03\x00\x01t", "\x16\x03\x01\x02\x00\x01", "\x10\x00"} {
			p := plug(t, b)
			p.raw([]byte(raw))
			p.expectClosed()
		}
	})
	if d.count() != 0 {
		t.Fatalf("delivered %+v", d.messages()[0])
	}
	if n := b.Stats(); n.Closed["malformed"] < 15 || n.Closed["no_connect"] < 2 {
		t.Fatalf("stats %+v", n)
	}
}

func TestTooManyPropertiesAreRefused(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	p := join(t, b, 5, "a", nil)
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: "t", Payload: []byte("x")}
	for range 1000 {
		pk.Properties.User = append(pk.Properties.User, packets.UserProperty{Key: "kkkk", Val: "vvvv"})
	}
	p.send(pk)
	if code := p.expectClosed(); code != 0x95 || d.count() != 0 {
		t.Fatalf("DISCONNECT with %#x, %d delivered", code, d.count())
	}
}

func TestSlowHandshakesAndPacketsAreCutOff(t *testing.T) {
	d := &desk{}
	b := start(t, d, func(o *Options) {
		o.Limits.ConnectTimeout, o.Limits.PacketTimeout = 50*time.Millisecond, 50*time.Millisecond
	})
	plug(t, b).expectClosed()
	p := plug(t, b)
	p.raw([]byte{0x10, 20, 0, 4, 'M'})
	p.expectClosed()
	p = join(t, b, 5, "a", nil)
	p.raw([]byte{0x30, 20, 0, 1})
	p.expectClosed()
	p = join(t, b, 5, "a", func(pk *packets.Packet) { pk.Connect.Keepalive = 1 })
	began := time.Now()
	if code := p.expectClosed(); code != 0x8d || time.Since(began) < time.Second {
		t.Fatalf("DISCONNECT with %#x after %v", code, time.Since(began))
	}
	eventually(t, "the counts", func() bool {
		n := b.Stats().Closed
		return n["connect_timeout"] == 2 && n["packet_timeout"] == 1 && n["keep_alive"] == 1
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	d := &desk{}
	b := start(t, d, func(o *Options) { o.Limits.Clients, o.Limits.Handshakes = 2, 3 })
	join(t, b, 4, "a", nil)
	join(t, b, 4, "b", nil)
	if ack := plug(t, b).connect(4, "c", nil); ack.ReasonCode != 3 {
		t.Fatalf("CONNACK with %#x", ack.ReasonCode)
	}
	eventually(t, "it is gone", func() bool { return b.Stats().Connecting == 0 })
	for range 3 {
		plug(t, b)
	}
	eventually(t, "three handshakes", func() bool { return b.Stats().Connecting == 3 })
	plug(t, b).expectClosed()
	if n := b.Stats(); n.TurnedAway["handshakes"] != 1 || n.Clients != 2 {
		t.Fatalf("stats %+v", n)
	}
}

func TestAClientWithTooMuchUnacknowledgedIsNotRead(t *testing.T) {
	for name, change := range map[string]func(*Limits){
		"messages":       func(l *Limits) { l.Unacked = 10 },
		"bytes":          func(l *Limits) { l.UnackedBytes = 10 * (1000 + overhead) },
		"bytes over all": func(l *Limits) { l.PendingBytes = 9*(1000+overhead) + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			d := &desk{hold: true}
			b := start(t, d, func(o *Options) { change(&o.Limits) })
			p := join(t, b, 4, "a", nil)
			payload := strings.Repeat("x", 1000)
			const n = 60_000 // 60 MB, far more than the sockets hold
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				var buf bytes.Buffer
				for i := range n {
					pk := packets.Packet{
						FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, TopicName: "t", Payload: []byte(payload), PacketID: uint16(i%65535) + 1,
					}
					_ = pk.PublishEncode(&buf)
					if _, err := buf.WriteTo(p.conn); err != nil {
						return
					}
				}
			}()
			eventually(t, "the window is full", func() bool { return b.Stats().Held > 0 })
			select {
			case <-sent:
				t.Fatal("everything was read")
			case <-time.After(50 * time.Millisecond):
			}
			if got := d.count(); got != 10 {
				t.Fatalf("%d with the handler, want 10", got)
			}
			other := join(t, b, 4, "other", nil)
			other.publish("o", "x", 1, 1) // others go on
			eventually(t, "the other's message", func() bool { return d.count() == 11 })
			d.set(func() { d.hold = false })
			for _, done := range d.take() {
				done(nil)
			}
			for i := range n {
				if pk := p.expect(packets.Puback); pk.PacketID != uint16(i%65535)+1 {
					t.Fatalf("ack %d is for %d", i, pk.PacketID)
				}
			}
			other.expect(packets.Puback)
			eventually(t, "nothing pending", func() bool { return b.Stats().PendingBytes == 0 })
		})
	}
}

func TestAClientWithTooMuchQoS0WithTheHandlerIsNotRead(t *testing.T) {
	for name, change := range map[string]func(*Limits){
		"messages":       func(l *Limits) { l.PendingQoS0 = 10 },
		"bytes":          func(l *Limits) { l.UnackedBytes = 10 * (1 + overhead) },
		"bytes over all": func(l *Limits) { l.PendingBytes = 9*(1+overhead) + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			d := &desk{hold: true}
			b := start(t, d, func(o *Options) { change(&o.Limits) })
			sub := join(t, b, 4, "sub", nil)
			sub.subscribe(1, 0, "t")
			p := join(t, b, 4, "a", nil)
			const n = 25
			for range n {
				p.publish("t", "x", 0, 0)
			}
			eventually(t, "it is held back", func() bool { return b.Stats().Held == 1 })
			other := join(t, b, 4, "other", nil)
			other.publish("o", "x", 0, 0)
			eventually(t, "the other's message", func() bool { return d.count() == 11 }) // others go on
			d.set(func() { d.hold = false })
			for _, done := range d.take() {
				done(nil)
			}
			eventually(t, "all of them", func() bool { return d.count() == n+1 })
			for range n {
				sub.expect(packets.Publish)
			}
			p.silent() // it is read again
			if n := b.Stats(); n.PendingBytes != 0 || n.DroppedQoS0 != 0 {
				t.Fatalf("stats %+v", n)
			}
		})
	}
}

func TestAClientThatIsHeldBackForItsQoS0Ends(t *testing.T) {
	d := &desk{hold: true}
	b := start(t, d, func(o *Options) { o.Limits.PendingQoS0 = 1 })
	p := join(t, b, 4, "a", nil)
	p.publish("t", "x", 0, 0)
	p.publish("t", "x", 0, 0)
	eventually(t, "it is held back", func() bool { return b.Stats().Held == 1 })
	join(t, b, 4, "a", nil) // takes the session over
	for _, done := range d.take() {
		done(nil)
	}
	if n := b.Stats(); d.count() != 1 || n.PendingBytes != 0 {
		t.Fatalf("%d delivered, stats %+v", d.count(), n)
	}
}

func TestQoS0ThatIsNotTakenIsCounted(t *testing.T) {
	d := &desk{hold: true}
	b := start(t, d, nil)
	p := join(t, b, 4, "a", nil)
	for range 3 {
		p.publish("t", "x", 0, 0)
	}
	eventually(t, "they are there", func() bool { return d.count() == 3 })
	for i, done := range d.take() {
		done([]error{nil, errors.New("no room"), ErrRefused}[i])
	}
	if n := b.Stats(); n.DroppedQoS0 != 1 || n.PendingBytes != 0 {
		t.Fatalf("stats %+v", n)
	}
}

func TestAClientThatDoesNotReadHoldsNobodyUp(t *testing.T) {
	d := &desk{forget: true}
	b := start(t, d, func(o *Options) { o.Limits.WriteTimeout = 500 * time.Millisecond })
	before := heap()
	slow := join(t, b, 4, "slow", nil)
	slow.subscribe(1, 1, "zero/#", "one/#")
	p := join(t, b, 4, "p", nil)
	payload := strings.Repeat("x", 10_000)
	began := time.Now()
	for i := range 3000 { // 30 MB
		p.publish("zero/t", payload, 0, 0)
		if i%100 == 99 {
			p.silent()
		}
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Fatalf("the publisher took %v", took)
	}
	if grown := int64(heap()) - int64(before); grown > 16<<20 {
		t.Fatalf("%d bytes are held for a slow client", grown)
	}
	p.publish("one/t", payload, 1, 1)
	p.expect(packets.Puback)
	eventually(t, "it is closed", func() bool { return b.Stats().Closed["slow"] == 1 })
	if n := b.Stats(); n.DroppedOut == 0 || n.Clients != 1 {
		t.Fatalf("stats %+v", n)
	}
	if d.count() != 3001 {
		t.Fatalf("%d delivered", d.count())
	}
	n, _ := io.Copy(io.Discard, slow.conn)
	if n == 0 || n > 20<<20 {
		t.Fatalf("the slow client got %d bytes", n)
	}
}

func TestAClientThatDoesNotTakeAcknowledgementsIsClosed(t *testing.T) {
	d := &desk{forget: true}
	b := start(t, d, func(o *Options) { o.Limits.OutboundBytes, o.Limits.WriteTimeout = 1000, 200*time.Millisecond })
	p := join(t, b, 4, "a", nil)
	_ = p.conn.(*net.TCPConn).SetReadBuffer(1 << 10)
	chunk := bytes.Repeat([]byte{0x32, 6, 0, 1, 't', 0, 1, 'x'}, 10_000)
	for range 5000 { // 400 MB, 200 MB of acknowledgements
		if _, err := p.conn.Write(chunk); err != nil {
			break
		}
	}
	eventually(t, "it is closed", func() bool { return b.Stats().Closed["slow"] == 1 })
}

func TestSubscriptionsAreBounded(t *testing.T) {
	d := &desk{}
	b := start(t, d, func(o *Options) { o.Limits.Subscriptions = 3 })
	p := join(t, b, 5, "a", nil)
	if ack := p.subscribe(1, 0, "a", "b", "c", "d"); !bytes.Equal(ack.ReasonCodes, []byte{0, 0, 0, 0x97}) {
		t.Fatalf("SUBACK %x", ack.ReasonCodes)
	}
	if ack := p.subscribe(1, 1, "a"); ack.ReasonCodes[0] != 1 { // known already
		t.Fatalf("SUBACK %x", ack.ReasonCodes)
	}
	if n := b.Stats(); n.Subscriptions != 3 || n.Refused["subscriptions"] != 1 {
		t.Fatalf("stats %+v", n)
	}
}

func TestWhatWaitsForAnAbsentClientIsBounded(t *testing.T) {
	d := &desk{forget: true}
	b := start(t, d, nil)
	p := join(t, b, 4, "away", stay)
	p.subscribe(1, 1, "t")
	p.conn.Close()
	eventually(t, "it is away", func() bool { return b.Stats().Clients == 0 })
	pub := join(t, b, 4, "pub", nil)
	for range 1000 {
		pub.publish("t", strings.Repeat("x", 10_000), 1, 1)
		pub.expect(packets.Puback)
	}
	n := b.Stats()
	queued := 1000 - int(n.DroppedQueue)
	if size := 10_000 + overhead; queued < (1<<20)/(size+100) || queued > (1<<20)/size+1 || b.outbound.Load() != 0 {
		t.Fatalf("%d are queued, %d bytes wait, stats %+v", queued, b.outbound.Load(), n)
	}
	p = join(t, b, 4, "away", stay)
	for range queued {
		pk := p.expect(packets.Publish)
		p.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	p.silent()
	eventually(t, "nothing waits", func() bool { return b.outbound.Load() == 0 && stored(t, b, TableQueue) == 0 })
	pub.publish("t", "again", 1, 1)
	if pk := p.expect(packets.Publish); string(pk.Payload) != "again" {
		t.Fatalf("got %+v", pk)
	}
}

// stored counts the records of a table.
func stored(t *testing.T, b *Broker, table storage.Table) int {
	t.Helper()
	n, err := b.store.Count(table, "")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLargePacketsHaveABoundOverAll(t *testing.T) {
	d := &desk{}
	b := start(t, d, func(o *Options) { o.Limits.LargeBuffers = 300 << 10 })
	for i := range 5 {
		p := join(t, b, 4, fmt.Sprint("c", i), nil)
		p.raw(append([]byte{0x30, 0x80, 0x80, 0x0c, 0, 1, 't'}, make([]byte, 150<<10)...)) // 192 KiB, and not all of it
	}
	eventually(t, "one has to go", func() bool { return b.Stats().Closed["memory"] > 0 })
	p := join(t, b, 4, "small", nil)
	p.publish("t", strings.Repeat("x", 20_000), 1, 1)
	p.expect(packets.Puback)
	b.Disconnect(func(Client) bool { return true })
	eventually(t, "nothing is held", func() bool { return b.largeBuffers.Load() == 0 })
}

// FuzzConnection throws bytes at a live broker, before and after a login; it must survive and serve the next client.
func FuzzConnection(f *testing.F) {
	for _, seed := range []string{
		"\x30\x03\x00\x01t", "\x32\x05\x00\x01t\x00\x01", "\x34\x05\x00\x01t\x00\x01\x62\x02\x00\x01", "\xc0\x00\xe0\x00",
		"\x82\x06\x00\x01\x00\x01#\x01\xa2\x05\x00\x01\x00\x01#", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00", "\x82\x0d\x00\x01\x00\x08$share/a\x00",
		"\x50\x02\x00\x01\x40\x02\x00\x01\x70\x02\x00\x01", "\xf0\x00", "\x31\x03\x00\x01t",
	} {
		f.Add([]byte(seed), byte(4), true)
		f.Add([]byte(seed), byte(5), true)
		f.Add([]byte(seed), byte(5), false)
	}
	b, err := Open(Options{Addr: "127.0.0.1:0", Store: newStore(f), Handler: &desk{forget: true}, AllowAnonymous: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { b.Close() })
	f.Fuzz(func(t *testing.T, raw []byte, version byte, login bool) {
		p := plug(t, b)
		if login {
			if version != 5 {
				version = 4
			}
			p.connect(version, "fuzz", nil)
		}
		p.raw(raw)
		_ = p.conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, p.conn)
		p.conn.Close()
		if n := b.Stats().Panics; n > 0 {
			t.Fatal("a panic")
		}
	})
}

// FuzzParsePublish holds that parsing what was written gives what was meant, and that nothing else panics.
func FuzzParsePublish(f *testing.F) {
	f.Add(byte(0x32), []byte("\x00\x01t\x00\x01payload"), byte(4))
	f.Add(byte(0x35), []byte("\x00\x01t\x00\x01\x03\x23\x00\x01payload"), byte(5))
	f.Fuzz(func(t *testing.T, first byte, body []byte, version byte) {
		p, err := parsePublish(first, body, version)
		if err != nil {
			return
		}
		want := packets.Packet{FixedHeader: packets.FixedHeader{Qos: p.qos}, ProtocolVersion: version}
		if want.PublishDecode(bytes.Clone(body)) != nil {
			return // its topic or properties are checked later
		}
		if want.TopicName != string(p.topic) || want.PacketID != p.id || !bytes.Equal(want.Payload, p.payload) {
			t.Fatalf("got %+v, want %+v", p, want)
		}
	})
}

func TestRandomBytesAreSurvived(t *testing.T) {
	d := &desk{}
	b := start(t, d, nil)
	for i := range 200 {
		p := plug(t, b)
		if i%2 == 0 {
			p.connect(byte(4+i/2%2), "r", nil)
		}
		noise := make([]byte, 300)
		_, _ = rand.Read(noise)
		_, _ = p.conn.Write(noise)
		p.conn.Close()
	}
	p := join(t, b, 4, "fine", nil)
	p.publish("t", "still there", 1, 1)
	p.expect(packets.Puback)
}
