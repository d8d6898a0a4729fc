package contract

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
)

// bench is a device and the twin's end.
type bench struct {
	t    *testing.T
	tr   Transport
	peer Peer
	sink *Recorder
	conn drivers.Conn
	set  *metrics.Set
	// before is what the metrics said when the connection was opened.
	before map[string]float64
	// greetings are frames that came before the test began.
	greetings int
}

func (tr Transport) options(uri string, sink drivers.Sink) transport.Options {
	return transport.Options{
		Binding: drivers.Binding{Twin: "default/device", URI: uri, Transport: tr.Options}, Sink: sink,
		Backoff: transport.Backoff{Min: 5 * time.Millisecond, Max: 20 * time.Millisecond}, SerialPaths: []string{"/dev/shm/*/line"},
	}
}

func (tr Transport) open(t *testing.T, change func(*transport.Options)) *bench {
	b := &bench{t: t, tr: tr, peer: tr.NewPeer(t), sink: &Recorder{}, set: metrics.NewSet()}
	o := tr.options(b.peer.URI(), b.sink)
	o.Metrics = b.set
	if change != nil {
		change(&o)
	}
	b.before = b.metrics()
	c, err := tr.Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	b.conn = c
	if g, ok := b.peer.(Greeter); ok {
		b.peer.Send(g.Greeting())
		b.sink.Await(t, "the greeting", func([]string) bool { return len(b.sink.Frames()) > 0 })
		b.greetings = len(b.sink.Frames())
	}
	return b
}

// connected waits for the connection.
func (b *bench) connected(times int) {
	b.t.Helper()
	b.sink.Await(b.t, fmt.Sprintf("%d connections", times), func(e []string) bool { return count(e, "connected") >= times })
}

func (b *bench) send(frame string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := b.conn.Send(ctx, b.tr.encode(frame)); err != nil {
		b.t.Fatalf("send %q: %v", frame, err)
	}
}

func (b *bench) received(frame string) {
	b.t.Helper()
	if got := b.peer.Received(); string(got) != frame {
		b.t.Fatalf("the device received %q, want %q", short(got), short([]byte(frame)))
	}
}

func (tr Transport) encode(frame string) []byte {
	if tr.Encode != nil {
		return tr.Encode([]byte(frame))
	}
	return []byte(frame)
}

// frames gives what the sink received, with the ends that a tokenizer takes away.
func (b *bench) frames() []string {
	var all []string
	for _, f := range b.sink.Frames()[b.greetings:] {
		if b.tr.Decode != nil {
			f = b.tr.Decode(f)
		}
		if !b.tr.is(Messages) {
			f = append(bytes.Clone(f), '\n')
		}
		all = append(all, string(f))
	}
	return all
}

func (b *bench) awaitFrames(want ...string) {
	b.t.Helper()
	b.sink.Await(b.t, fmt.Sprintf("%d frames", len(want)), func([]string) bool { return len(b.frames()) >= len(want) })
	for i, w := range want {
		if got := b.frames()[i]; got != w {
			b.t.Fatalf("frame %d is %q, want %q", i, short([]byte(got)), short([]byte(w)))
		}
	}
}

// metric gives by how much a metric of the connection's scheme grew since it was opened.
func (b *bench) metric(name string) float64 { return b.metrics()[name] - b.before[name] }

// metrics gives those of the scheme, by their names.
func (b *bench) metrics() map[string]float64 {
	var text bytes.Buffer
	if b.tr.Metrics != nil {
		b.tr.Metrics(&text)
	} else {
		b.set.WritePrometheus(&text)
	}
	all := map[string]float64{}
	for line := range strings.Lines(text.String()) {
		name, rest, _ := strings.Cut(strings.TrimPrefix(line, "pollux_transport_"), "{")
		labels, value, _ := strings.Cut(strings.TrimSpace(rest), "} ")
		if strings.HasPrefix(line, "pollux_transport_") && strings.Contains(labels, fmt.Sprintf("scheme=%q", b.tr.Options.Scheme)) {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.t.Fatalf("%q: %v", line, err)
			}
			all[name] += v
		}
	}
	return all
}

func statsOf(c drivers.Conn) drivers.Stats { return c.(drivers.Reporter).Stats() }

func short(b []byte) string {
	if len(b) > 80 {
		return fmt.Sprintf("%s… (%d bytes)", b[:80], len(b))
	}
	return string(b)
}
