package wheel

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
)

// BenchmarkPendingTimers sets a million timers, weighs them, and has those of five seconds fire by the clock: how late is each?
func BenchmarkPendingTimers(b *testing.B) {
	const count, tick, firing = 1_000_000, 10, 5 * time.Second
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	began := time.Now()
	now := func() int64 { return int64(time.Since(began) / time.Millisecond) }
	w := New[uint32](tick, 4096, 0)
	nodes := make([]*Node[uint32], count)
	slots := uint64(count * 8) // the pointers are the test's own
	at := make([]int64, count)
	for i := range nodes {
		nodes[i] = &Node[uint32]{Value: uint32(i)}
		// Half of them are due while it looks on, the others some time within a day.
		at[i] = 2000 + rand.Int64N(firing.Milliseconds())
		if i%2 == 1 {
			at[i] = 60_000 + rand.Int64N(86_400_000)
		}
		w.Set(nodes[i], at[i])
	}
	each := float64(heap()-before-slots-uint64(count*8)) / count
	var late []float64
	var due []uint32
	ticker := time.NewTicker(tick * time.Millisecond)
	defer ticker.Stop()
	for len(late) < count/2 {
		<-ticker.C
		due = w.Advance(now(), due[:0])
		seen := now()
		for _, i := range due {
			if seen < at[i] {
				b.Fatalf("timer %d fired %d ms too soon", i, at[i]-seen)
			}
			late = append(late, float64(seen-at[i]))
		}
	}
	slices.Sort(late)
	p99 := late[len(late)*99/100]
	line("pending timers: memory of each of 1,000,000", "B", each, "<= 64", each <= 64)
	line("pending timers: firing error p99", "ms", p99, "<= 50", p99 <= 50)
	b.ReportMetric(each, "B/timer")
	b.ReportMetric(p99, "p99-ms")
	b.ReportMetric(0, "ns/op")
	runtime.KeepAlive(nodes)
}

// line prints a result where test/bench finds it.
func line(name, unit string, ours float64, goal string, met bool) {
	text, _ := json.Marshal(map[string]any{"name": name, "unit": unit, "ours": ours, "goal": goal, "met": met})
	fmt.Printf("\nBENCH %s\n", text)
}
