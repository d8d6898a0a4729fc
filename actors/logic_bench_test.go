package actors_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// BenchmarkRunInRoute compares a message's way through a route's run in JavaScript, from the lane to the outbox with its commit, with
// the same metered guest called directly. They take turns; the best turn of each counts.
func BenchmarkRunInRoute(b *testing.B) {
	n := open(b, vfs.NewMem(), 1)
	n.logic("bench.js")
	n.twin(`{"id":"bench","driver":"bench-run"}`)
	n.stream("default/out")
	n.route(&pb.Route{Id: "r", Topics: []string{"out"}, Run: "bench", Properties: []string{"level"}})
	const messages, turns = 1000, 15
	var payloads [][]byte
	for i := range messages {
		payloads = append(payloads, fmt.Appendf(nil, `{"twin":"default/bench","kind":"property","name":"level","value":%d,"time":"2026-03-02T08:00:00.000Z"}`, i))
	}
	ours, floor := time.Hour, time.Hour
	for range turns {
		took, err := n.engine.Judge("default/r", payloads)
		if err != nil {
			b.Fatal(err)
		}
		ours = min(ours, took/messages)
		if took, err = n.engine.CallRun(ctx(b), "default/bench", "default/r", payloads); err != nil {
			b.Fatal(err)
		}
		floor = min(floor, took/messages)
	}
	line, err := json.Marshal(map[string]any{"name": "run in a route, JavaScript, per message", "unit": "µs", "ours": micros(ours), "floor": micros(floor),
		"ratio": float64(ours) / float64(floor), "goal": "≤ 2 µs more than the guest", "met": ours-floor <= 2*time.Microsecond})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	fmt.Printf("\nBENCH %s\n", line)
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
