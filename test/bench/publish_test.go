package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/polluxhq/pollux/test/load"
)

// BenchmarkPublish: QoS 1 publishes of 1,000 devices over 50 connections, through the driver, until state and sample are
// committed, against mochi-mqtt alone with an empty hook.
func BenchmarkPublish(b *testing.B) {
	n := openNode(b)
	createTwins(b, n, 1000)
	mochi := bareMochi(b, &emptyHook{})
	publish := func(addr string) func() float64 {
		return func() float64 {
			ctx, cancel := context.WithTimeout(b.Context(), span)
			defer cancel()
			r, err := load.Run(ctx, load.Options{Addr: addr, Devices: 1000, Connections: 50, QoS: 1, Drain: 10 * time.Second,
				Topic: func(d int) string { return "echo/echo-" + strconv.Itoa(d) + "/set" },
				Payload: func(dst []byte, _ int, _ uint64, v float64) []byte {
					return append(strconv.AppendFloat(append(dst, `{"level":`...), v, 'f', -1, 64), '}')
				}})
			if err != nil {
				b.Fatal(err)
			}
			if r.Acked == 0 || r.Losses > 0 || r.OutOfOrder > 0 {
				b.Fatalf("not a clean run: %+v", r)
			}
			fmt.Printf("%s: %.0f/s, p99 %v\n", addr, r.PerSecond(), r.Latency.Quantile(0.99))
			return r.PerSecond()
		}
	}
	against(b, "MQTT QoS 1 to committed state and sample, 1,000 devices, 50 connections", "messages/s", 0.15,
		publish(n.MQTTAddr()), publish(mochi))
}

// BenchmarkPublishMany: messages of 10,000 devices over 50 connections to twins with a model, until state and samples are
// committed: QoS 1 by what is acknowledged in a while, QoS 0, three million as fast as the receiver reads, by when the twins' committed counters have them.
// Against mochi-mqtt alone with an empty hook (QoS 0: by what the hook saw).
func BenchmarkPublishMany(b *testing.B) {
	const devices, unacknowledged = 10_000, 3_000_000
	n := openNodeBare(b)
	createSensors(b, n, devices)
	hook := &emptyHook{}
	mochi := bareMochi(b, hook)
	options := load.Options{Devices: devices, Connections: 50, Drain: 20 * time.Second,
		Topic: func(d int) string { return "default/mqtt/id/" + strconv.Itoa(d) },
		Payload: func(dst []byte, _ int, _ uint64, v float64) []byte {
			return append(strconv.AppendFloat(append(dst, `{"humidity":40,"temperature":`...), v, 'f', -1, 64), '}')
		}}
	run := func(addr string, qos byte, messages uint64) load.Report {
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		o := options
		if o.Addr, o.QoS, o.Messages = addr, qos, messages; messages == 0 {
			defer time.AfterFunc(2*span, cancel).Stop() // what is written behind is committed within a second of it
		}
		r, err := load.Run(ctx, o)
		if err != nil {
			b.Fatal(err)
		}
		if r.Acked == 0 || r.Losses > 0 || r.OutOfOrder > 0 {
			b.Fatalf("not a clean run: %+v", r)
		}
		return r
	}
	stored := func() uint64 {
		res, err := n.Registry().IngestStatus("default", true, nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range res.Counts {
			if c.Door == "mqtt" {
				return c.Stored
			}
		}
		return 0
	}
	run(n.MQTTAddr(), 1, devices) // every twin is in memory
	acked := func(addr string) func() float64 {
		return func() float64 { r := run(addr, 1, 0); return r.PerSecond() }
	}
	against(b, "MQTT QoS 1 to committed state and samples, 10,000 devices, 50 connections", "messages/s", 0.3, acked(n.MQTTAddr()), acked(mochi))
	against(b, "MQTT QoS 0 to committed state and samples, 10,000 devices, 50 connections", "messages/s", 0.2,
		func() float64 {
			return arriving(b, stored, func() uint64 { return run(n.MQTTAddr(), 0, unacknowledged).Sent })
		},
		func() float64 {
			return arriving(b, hook.seen.Load, func() uint64 { return run(mochi, 0, unacknowledged).Sent })
		})
}

// arriving sends as fast as the receiver reads, and gives how many messages arrive a second until no more do. Those that are
// dropped do not count. A look at the counters of 10,000 twins takes 50 ms of a processor, so it looks when half of what is left may have come.
func arriving(b *testing.B, arrived func() uint64, send func() uint64) float64 {
	b.Helper()
	before, began := arrived(), time.Now()
	all := send()
	var last uint64
	for to := time.Now(); ; {
		if now := arrived() - before; now > last {
			last, to = now, time.Now()
		}
		if last >= all || time.Since(to) > 45*time.Second { // what is written behind comes within 30 s
			b.Logf("%d of %d messages were dropped", all-last, all)
			return float64(last) / max(to.Sub(began), time.Millisecond).Seconds() // it may be none at all
		}
		left := time.Duration(float64(time.Since(began)) * (float64(all)/max(float64(last), 1) - 1))
		time.Sleep(min(max(200*time.Millisecond, left/2), 5*time.Second))
	}
}

// emptyHook is on the path of a hook that looks at each message, and counts it.
type emptyHook struct {
	mochi.HookBase
	seen atomic.Uint64
}

func (*emptyHook) ID() string               { return "empty" }
func (*emptyHook) Provides(event byte) bool { return event == mochi.OnPublish }

// OnPublish implements mochi's hook.
func (h *emptyHook) OnPublish(_ *mochi.Client, p packets.Packet) (packets.Packet, error) {
	h.seen.Add(1)
	return p, nil
}

func bareMochi(b *testing.B, hook *emptyHook) string {
	b.Helper()
	s := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	for _, add := range []func() error{
		func() error { return s.AddHook(new(auth.AllowHook), nil) },
		func() error { return s.AddHook(hook, nil) },
		func() error { return s.AddListener(listeners.NewNet("floor", l)) },
		s.Serve,
	} {
		if err := add(); err != nil {
			b.Fatal(err)
		}
	}
	b.Cleanup(func() { s.Close() })
	return l.Addr().String()
}
