package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polluxhq/pollux"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/load"
)

// resident is the memory of a process that is in RAM and its own, in bytes.
func resident(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb * 1024
		}
	}
	b.Fatal("no RssAnon in /proc")
	return 0
}

// openWithoutHistory opens a node in this process that pushes its samples to nobody: what twins take is measured, not
// what VictoriaMetrics takes for their series, and more than one node can be opened one after another.
func openWithoutHistory(b *testing.B, dir string, change func(*pollux.Config)) (n *pollux.Node, stop func()) {
	b.Helper()
	c := pollux.DefaultConfig()
	c.Gossip, c.Peer = "127.0.0.1:0", "127.0.0.1:0"
	c.Data, c.HTTP, c.MQTT, c.MetricsURL = dir, "127.0.0.1:0", "127.0.0.1:0", "http://127.0.0.1:9"
	change(&c)
	n, err := pollux.Open(b.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	return n, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			b.Error(err)
		}
	}
}

// populate makes a data directory with so many echo twins.
func populate(b *testing.B, dir string, count int) {
	b.Helper()
	n, stop := openWithoutHistory(b, dir, func(c *pollux.Config) { c.PassivateAfter = time.Second })
	upload(b, n, "echo")
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 * clients {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= count || b.Failed() {
					return
				}
				name := "echo-" + strconv.Itoa(i)
				if _, err := n.Registry().CreateTwin(b.Context(), &pb.Twin{Id: name, Driver: "echo", Settings: settings(name)}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stop()
	os.RemoveAll(filepath.Join(dir, "history"))
	if b.Failed() {
		b.FailNow()
	}
}

// settled is the memory of a node's process once it has stopped changing.
func settled(b *testing.B, n *harness.Node) float64 {
	b.Helper()
	last := resident(b, n.PID())
	for range 30 {
		time.Sleep(2 * time.Second)
		now := resident(b, n.PID())
		if now > last*0.99 && now < last*1.01 {
			return now
		}
		last = now
	}
	return last
}

// collected is the memory of this process after a collection, everything counted.
func collected(b *testing.B) float64 {
	debug.FreeOSMemory()
	return resident(b, os.Getpid())
}

// BenchmarkActiveTwins: what a twin with ten properties takes while it is in memory, after a collection. The garbage
// collector's headroom (by default up to as much again) and VictoriaMetrics' index of their series come on top.
func BenchmarkActiveTwins(b *testing.B) {
	const count = 100_000
	dir := filepath.Join(b.TempDir(), "data")
	populate(b, dir, count)
	n, stop := openWithoutHistory(b, dir, func(c *pollux.Config) { c.PassivateAfter = time.Hour })
	defer stop()
	before := collected(b)
	_, err := load.Run(b.Context(), load.Options{Addr: n.MQTTAddr(), Devices: count, Connections: 50, QoS: 1, Messages: count, Drain: time.Minute,
		Topic: func(d int) string { return "echo/echo-" + strconv.Itoa(d) + "/set" },
		Payload: func(dst []byte, _ int, _ uint64, _ float64) []byte {
			return append(dst, `{"p0":0.5,"p1":1.5,"p2":2.5,"p3":3.5,"p4":4.5,"p5":5.5,"p6":6.5,"p7":7.5,"p8":8.5,"p9":9.5}`...)
		}})
	if err != nil {
		b.Fatal(err)
	}
	cluster := polluxv1connect.NewClusterServiceClient(n.HTTPClient(), n.URL(), keyed(b, n))
	status, err := cluster.GetStatus(b.Context(), request(&pb.GetStatusRequest{}))
	if err != nil {
		b.Fatal(err)
	}
	if status.Msg.ActiveTwins < count {
		b.Fatalf("%d of %d twins are active", status.Msg.ActiveTwins, count)
	}
	each := (collected(b) - before) / count
	report(b, Line{Name: "100,000 active twins with 10 properties", Unit: "B resident each", Ours: each, Goal: "<= 4096", Met: each <= 4096})
}

// BenchmarkKnownTwins: what a twin takes that only the store knows, and how long a node with a million of them starts.
func BenchmarkKnownTwins(b *testing.B) {
	const count = 1_000_000
	empty := harness.Start(b, harness.Options{})
	base := settled(b, empty)
	empty.Kill()

	dir := filepath.Join(b.TempDir(), "data")
	populate(b, dir, count)
	began := time.Now()
	n := harness.Start(b, harness.Options{Dir: dir})
	ready := time.Since(began).Seconds()
	each := (settled(b, n) - base) / count
	report(b, Line{Name: "1,000,000 known twins, none active", Unit: "B resident each", Ours: each, Goal: "<= 100", Met: each <= 100})
	report(b, Line{Name: "1,000,000 known twins: start to ready", Unit: "s", Ours: ready, Goal: "<= 5", Met: ready <= 5})
}
