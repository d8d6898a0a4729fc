package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/test/harness"
)

const (
	clients = 64
	span    = 4 * time.Second // of each measurement
	rounds  = 3               // ours and floor in turn; the medians count
)

// report prints a result where the collector finds it.
func report(b *testing.B, l Line) {
	b.Helper()
	if l.Floor != 0 {
		l.Ratio = l.Ours / l.Floor
		b.ReportMetric(l.Ratio, "ratio")
	}
	text, err := json.Marshal(l)
	if err != nil {
		b.Fatal(err)
	}
	fmt.Printf("\n%s%s\n", mark, text)
	b.ReportMetric(l.Ours, "ours")
	b.ReportMetric(0, "ns/op")
}

// against measures ours and the floor in turn and reports the medians' ratio against the least one wanted.
func against(b *testing.B, name, unit string, least float64, ours, floor func() float64) {
	b.Helper()
	l := inTurn(name, unit, ours, floor)
	l.Goal, l.Met = fmt.Sprintf("ratio >= %.2f", least), l.Ours/l.Floor >= least
	report(b, l)
}

// beside measures ours and the floor in turn, where no ratio is wanted.
func beside(b *testing.B, name, unit string, ours, floor func() float64) {
	b.Helper()
	l := inTurn(name, unit, ours, floor)
	l.Goal, l.Met = "reported", true
	report(b, l)
}

// inTurn measures ours and the floor in turn, for their medians.
func inTurn(name, unit string, ours, floor func() float64) Line {
	var o, f []float64
	for range rounds {
		f = append(f, floor())
		o = append(o, ours())
	}
	return Line{Name: name, Unit: unit, Ours: median(o), Floor: median(f)}
}

func median(v []float64) float64 {
	for i := range v {
		for j := i; j > 0 && v[j] < v[j-1]; j-- {
			v[j], v[j-1] = v[j-1], v[j]
		}
	}
	return v[len(v)/2]
}

// perSecond runs the clients for the span and counts what they finished. The first error ends the benchmark.
func perSecond(b *testing.B, call func(ctx context.Context, client, i int) error) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), span)
	defer cancel()
	var done atomic.Uint64
	var wg sync.WaitGroup
	began := time.Now()
	for c := range clients {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := call(b.Context(), c, i); err != nil {
					b.Errorf("client %d: %v", c, err)
					cancel()
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return float64(done.Load()) / time.Since(began).Seconds()
}

// openNode opens a node in this process, with the echo driver.
func openNode(b *testing.B) *pollux.Node {
	b.Helper()
	n := openNodeBare(b)
	upload(b, n, "echo")
	return n
}

// openNodeBare opens a node in this process.
func openNodeBare(b *testing.B) *pollux.Node {
	b.Helper()
	c := pollux.DefaultConfig()
	c.Gossip, c.Peer = "127.0.0.1:0", "127.0.0.1:0"
	c.Data, c.HTTP, c.MQTT, c.PassivateAfter = filepath.Join(b.TempDir(), "data"), "127.0.0.1:0", "127.0.0.1:0", time.Hour
	n, err := pollux.Open(b.Context(), c, quiet())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			b.Error(err)
		}
	})
	return n
}

// keyed gives client options with the administrator's key.
func keyed(b *testing.B, n *pollux.Node) connect.ClientOption {
	b.Helper()
	key, err := os.ReadFile(pollux.AdminKeyFile(n.Config().Data))
	if err != nil {
		b.Fatal(err)
	}
	return connect.WithInterceptors(harness.Bearer(string(key[:len(key)-1])))
}

func upload(b *testing.B, n *pollux.Node, dir string) {
	b.Helper()
	drivers := polluxv1connect.NewDriverServiceClient(n.HTTPClient(), n.URL(), keyed(b, n))
	if _, err := drivers.UploadDriver(b.Context(), connect.NewRequest(&pb.UploadDriverRequest{File: harness.BuildDriver(b, dir)})); err != nil {
		b.Fatal(err)
	}
}

func twinsOf(b *testing.B, n *pollux.Node) polluxv1connect.TwinServiceClient {
	return polluxv1connect.NewTwinServiceClient(n.HTTPClient(), n.URL(), keyed(b, n))
}

// createTwins makes n echo twins, from many clients so that their commits go together.
func createTwins(b *testing.B, n *pollux.Node, count int) []string {
	b.Helper()
	twins := twinsOf(b, n)
	ids := make([]string, count)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				ids[i] = fmt.Sprintf("default/echo-%d", i)
				t := &pb.Twin{Id: ids[i], Driver: "echo", Settings: settings(fmt.Sprintf("echo-%d", i))}
				if _, err := twins.CreateTwin(b.Context(), connect.NewRequest(&pb.CreateTwinRequest{Twin: t})); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return ids
}

func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func request[T any](m *T) *connect.Request[T] { return connect.NewRequest(m) }
