package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/polluxhq/pollux/test/load"
)

// BenchmarkPublish: QoS 1 publishes of 1,000 devices over 50 connections, through the driver, until state and sample are
// committed, against mochi-mqtt alone with an empty hook.
func BenchmarkPublish(b *testing.B) {
	n := openNode(b)
	createTwins(b, n, 1000)
	mochi := bareMochi(b)
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

// emptyHook is on the path of a hook that looks at each message, and does nothing.
type emptyHook struct{ mochi.HookBase }

func (emptyHook) ID() string               { return "empty" }
func (emptyHook) Provides(event byte) bool { return event == mochi.OnPublish }

func bareMochi(b *testing.B) string {
	b.Helper()
	s := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	for _, add := range []func() error{
		func() error { return s.AddHook(new(auth.AllowHook), nil) },
		func() error { return s.AddHook(new(emptyHook), nil) },
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
