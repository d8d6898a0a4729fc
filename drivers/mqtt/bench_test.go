package mqtt_test

import (
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/polluxhq/pollux/drivers/mqtt"
	"github.com/polluxhq/pollux/storage/storagetest"
	"github.com/polluxhq/pollux/test/load"
)

// committer calls done from a goroutine of its own, for as many messages at once as have come: as a store does that
// commits in batches.
type committer struct{ dones chan func(error) }

func newCommitter(b *testing.B) *committer {
	c := &committer{dones: make(chan func(error), 64<<10)}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		batch := make([]func(error), 0, 512)
		for first := range c.dones {
			batch = append(batch[:0], first)
			for len(batch) < cap(batch) && len(c.dones) > 0 {
				batch = append(batch, <-c.dones)
			}
			for _, done := range batch {
				done(nil)
			}
		}
	}()
	b.Cleanup(func() { close(c.dones); <-stopped })
	return c
}

func (c *committer) Deliver(_ *mqtt.Message, done func(error)) { c.dones <- done }

func (c *committer) Authenticate(string, string, []byte) (mqtt.Grant, error) {
	return mqtt.Grant{}, nil
}

// emptyHook is on the same path as a hook that looks at each message, and does nothing.
type emptyHook struct{ mochi.HookBase }

func (emptyHook) ID() string               { return "empty" }
func (emptyHook) Provides(event byte) bool { return event == mochi.OnPublish }

// BenchmarkPublishQoS1 compares our way from PUBLISH over an asynchronous commit to PUBACK with mochi alone.
func BenchmarkPublishQoS1(b *testing.B) {
	b.Run("floor", func(b *testing.B) {
		server := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		_ = server.AddHook(new(auth.AllowHook), nil)
		_ = server.AddHook(new(emptyHook), nil)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		if err := server.AddListener(listeners.NewNet("t", l)); err != nil {
			b.Fatal(err)
		}
		if err := server.Serve(); err != nil {
			b.Fatal(err)
		}
		defer server.Close()
		publish(b, l.Addr().String())
	})
	b.Run("ours", func(b *testing.B) {
		broker, err := mqtt.Open(mqtt.Options{Addr: "127.0.0.1:0", Store: storagetest.OpenSingle(b, "data", vfs.NewMem()), Handler: newCommitter(b), AllowAnonymous: true})
		if err != nil {
			b.Fatal(err)
		}
		defer broker.Close()
		publish(b, broker.Addr().String())
	})
}

func publish(b *testing.B, addr string) {
	b.ReportAllocs()
	b.ResetTimer()
	r, err := load.Run(b.Context(), load.Options{Addr: addr, Devices: 1000, Connections: 50, Window: 64, QoS: 1, Messages: uint64(max(b.N, 50))})
	b.StopTimer()
	if err != nil || r.Unacked > 0 || r.OutOfOrder > 0 || r.Losses > 0 {
		b.Fatalf("%v; %+v", err, r.LastLoss)
	}
	b.ReportMetric(r.PerSecond(), "msg/s")
	b.ReportMetric(float64(r.Latency.Quantile(0.99).Microseconds()), "p99-µs")
}
