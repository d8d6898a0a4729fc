package load_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/drivers/mqtt"
	"github.com/polluxhq/pollux/storage/storagetest"
	"github.com/polluxhq/pollux/test/load"
)

// ledger is a handler that commits a message after a moment, and only then counts it as kept.
type ledger struct {
	mu    sync.Mutex
	kept  map[string][]string // payloads by topic, in the order of delivery
	queue chan func()
	hold  func() // is told of messages instead, which stay unacknowledged; nil: none do
}

func newLedger(t *testing.T) *ledger {
	l := &ledger{kept: map[string][]string{}, queue: make(chan func(), 100_000)}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for f := range l.queue {
			f()
		}
	}()
	t.Cleanup(func() { close(l.queue); <-stopped })
	return l
}

func (l *ledger) Deliver(m *mqtt.Message, done func(error)) {
	if l.hold != nil {
		l.hold()
		return
	}
	l.queue <- func() {
		l.mu.Lock()
		l.kept[m.Topic] = append(l.kept[m.Topic], string(m.Payload))
		l.mu.Unlock()
		done(nil)
	}
}

func (l *ledger) Authenticate(_, user string, password []byte) (mqtt.Grant, error) {
	if user != "key" || string(password) != "secret" {
		return mqtt.Grant{}, errors.New("wrong password")
	}
	return mqtt.Grant{Topics: []string{"dev/#"}}, nil
}

func serve(t *testing.T, l *ledger, addr string) *mqtt.Broker {
	t.Helper()
	b, err := mqtt.Open(mqtt.Options{Addr: addr, Store: storagetest.OpenSingle(t, "data", vfs.NewMem()), Handler: l, AllowAnonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestEveryMessageIsAcknowledgedOnceAndJournalled(t *testing.T) {
	l := newLedger(t)
	b := serve(t, l, "127.0.0.1:0")
	for _, o := range []load.Options{
		{Devices: 100, Connections: 7, Window: 50, QoS: 1, Messages: 20_000},
		{Devices: 3, Connections: 3, Window: 1, QoS: 1, Messages: 300},
		{Devices: 40, QoS: 1, Messages: 70_000, Window: 1000, Connections: 1}, // more than there are packet ids
		{Devices: 40, QoS: 0, Messages: 1000},
	} {
		var j load.Journal
		o.Addr, o.Journal, o.Prefix = b.Addr().String(), &j, "run"
		l.mu.Lock()
		clear(l.kept)
		l.mu.Unlock()
		r, err := load.Run(t.Context(), o)
		if err != nil || r.Sent != o.Messages || r.Acked != o.Messages || r.Unacked != 0 || r.OutOfOrder != 0 || r.Losses != 0 || r.Resent != 0 {
			t.Fatalf("%v: sent %d, acked %d, unacked %d, out of order %d, losses %d (%v)", err, r.Sent, r.Acked, r.Unacked, r.OutOfOrder, r.Losses, r.LastLoss)
		}
		if j.Len() != int(o.Messages) || r.Latency.Count() != o.Messages || r.PerSecond() <= 0 {
			t.Fatalf("%d in the journal", j.Len())
		}
		last := map[int]uint64{}
		j.Each(func(e load.Entry) {
			if e.Sequence != last[e.Device]+1 || e.Value != float64(e.Sequence) {
				t.Fatalf("after %d: %+v", last[e.Device], e)
			}
			last[e.Device] = e.Sequence
		})
		if len(last) != o.Devices {
			t.Fatalf("%d devices", len(last))
		}
		if o.QoS == 1 {
			check(t, l, &j)
		}
	}
}

// check holds that each acknowledged message is kept, and each device's are in order.
func check(t *testing.T, l *ledger, j *load.Journal) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := map[string]bool{}
	for topic, payloads := range l.kept {
		for _, p := range payloads {
			kept[topic+" "+p] = true
		}
	}
	j.Each(func(e load.Entry) {
		if key := fmt.Sprintf(`dev/%d/state {"value":%v,"sequence":%d}`, e.Device, e.Value, e.Sequence); !kept[key] {
			t.Fatalf("acknowledged and not kept: %s", key)
		}
	})
	for device, e := range j.Last() {
		var sequence, value uint64
		before := uint64(0)
		for _, p := range l.kept[fmt.Sprintf("dev/%d/state", device)] {
			if _, err := fmt.Sscanf(p, `{"value":%d,"sequence":%d}`, &value, &sequence); err != nil {
				t.Fatal(err)
			}
			// A repetition goes back by no more than a window; nothing is left out.
			if sequence > before+1 {
				t.Fatalf("device %d: %d after %d", device, sequence, before)
			}
			before = sequence
		}
		if before < e.Sequence {
			t.Fatalf("device %d: kept up to %d, acknowledged %d", device, before, e.Sequence)
		}
	}
}

func TestTheLoadSurvivesTheBroker(t *testing.T) {
	l := newLedger(t)
	b := serve(t, l, "127.0.0.1:0")
	addr := b.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	var j load.Journal
	type result struct {
		r   load.Report
		err error
	}
	ended := make(chan result, 1)
	go func() {
		r, err := load.Run(ctx, load.Options{Addr: addr, Devices: 20, Connections: 4, Window: 100, QoS: 1, Journal: &j, Rate: 50_000})
		ended <- result{r, err}
	}()
	for range 3 {
		wait(t, "some acknowledgements", func() bool { return j.Len() > 1000 })
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		n := j.Len()
		b = serve(t, l, addr)
		wait(t, "more acknowledgements", func() bool { return j.Len() > n+1000 })
	}
	cancel()
	got := <-ended
	// A broker that closes cuts those of the four connections that are there again: one at least.
	if got.err != nil || got.r.Unacked != 0 || got.r.OutOfOrder != 0 || got.r.Losses < 3 || got.r.Connects != got.r.Losses+4 || int(got.r.Acked) != j.Len() {
		t.Fatalf("%+v", got)
	}
	check(t, l, &j)
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func TestRateAndCredentials(t *testing.T) {
	l := newLedger(t)
	b, err := mqtt.Open(mqtt.Options{Addr: "127.0.0.1:0", Store: storagetest.OpenSingle(t, "data", vfs.NewMem()), Handler: l})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	o := load.Options{
		Addr: b.Addr().String(), Devices: 10, Connections: 2, QoS: 1, Rate: 1000, Messages: 300,
		Credentials: func(int) (string, string) { return "key", "secret" },
	}
	r, err := load.Run(t.Context(), o)
	if err != nil || r.Acked != 300 || r.Duration < 250*time.Millisecond || r.Duration > 5*time.Second {
		t.Fatalf("%v: %d acknowledged in %v (%v)", err, r.Acked, r.Duration, r.LastLoss)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	o.Credentials = nil
	if r, _ := load.Run(ctx, o); r.Acked != 0 || r.LastLoss == nil || !strings.Contains(r.LastLoss.Error(), "refused with code 5") {
		t.Fatalf("%d acknowledged, %v", r.Acked, r.LastLoss)
	}
}

// TestAcknowledgementsOutOfOrderAreNoticed has a broker that acknowledges the second message first.
func TestAcknowledgementsOutOfOrderAreNoticed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		buf := make([]byte, 4096)
		_, _ = conn.Read(buf)
		_, _ = conn.Write([]byte{0x20, 2, 0, 0})
		_, _ = conn.Read(buf)
		_, _ = conn.Write([]byte{0x40, 2, 0, 2, 0x40, 2})
		time.Sleep(10 * time.Millisecond) // in two pieces
		_, _ = conn.Write([]byte{0, 1})
		_, _ = conn.Read(buf)
	}()
	r, err := load.Run(t.Context(), load.Options{Addr: l.Addr().String(), Devices: 1, QoS: 1, Messages: 2})
	if err != nil || r.OutOfOrder != 1 || r.Acked != 2 {
		t.Fatalf("%v %+v", err, r)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for want, o := range map[string]load.Options{
		"no address":    {Devices: 1},
		"0 devices":     {Addr: "x"},
		"3 connections": {Addr: "x", Devices: 2, Connections: 3},
		"window":        {Addr: "x", Devices: 2, Window: 70_000},
		"qos 2":         {Addr: "x", Devices: 2, QoS: 2},
	} {
		if _, err := load.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something with %q", err, want)
		}
	}
}

func TestJournalIsWritten(t *testing.T) {
	b := serve(t, newLedger(t), "127.0.0.1:0")
	var j load.Journal
	value := func(device int, sequence uint64) float64 { return float64(device) + 0.5 }
	if _, err := load.Run(t.Context(), load.Options{Addr: b.Addr().String(), Devices: 2, QoS: 1, Messages: 4, Journal: &j, Value: value}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	n, err := j.WriteTo(&out)
	if err != nil || int(n) != out.Len() || strings.Count(out.String(), "\n") != 4 || !strings.Contains(out.String(), "1 2 1.5 ") {
		t.Fatalf("%v, %d bytes: %s", err, n, out.String())
	}
}

// TestWhatIsUnderWayAtTheEndIsBroughtHome: a broker that is away when the run's time is over is waited for.
func TestWhatIsUnderWayAtTheEndIsBroughtHome(t *testing.T) {
	silent := newLedger(t)
	var got atomic.Int64
	silent.hold = func() { got.Add(1) }
	b := serve(t, silent, "127.0.0.1:0")
	addr := b.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	var j load.Journal
	ended := make(chan load.Report, 1)
	go func() {
		r, err := load.Run(ctx, load.Options{Addr: addr, Devices: 4, Connections: 1, Window: 8, QoS: 1, Journal: &j, Drain: time.Minute})
		if err != nil {
			t.Error(err)
		}
		ended <- r
	}()
	wait(t, "a window of messages", func() bool { return got.Load() == 8 })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	cancel()
	l := newLedger(t)
	serve(t, l, addr)
	if r := <-ended; r.Unacked != 0 || r.Acked != 8 || r.Resent == 0 {
		t.Fatalf("%+v", r)
	}
	check(t, l, &j)
}
