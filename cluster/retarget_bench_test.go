package cluster

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
)

// BenchmarkRetarget: a member of nine changes its weight; where each slot belongs is computed anew and all slots are sorted, which
// the node does under its mutex. The floor is the draws alone.
func BenchmarkRetarget(b *testing.B) {
	const count = 9
	n, err := Start(b.Context(), Options{Self: Member{ID: "n1", Name: "n1", Incarnation: 1, Weight: 1}, Records: newTables(),
		Handler: &holder{slots: map[Slot]Ownership{}}})
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	ids := []string{"n1"}
	for i := 2; i <= count; i++ {
		id := fmt.Sprintf("0123456789abcdef012345678%d", i)
		n.members[id] = &memberView{Member: Member{ID: id, Name: id, Incarnation: 1, Weight: 1, State: StateActive}}
		ids = append(ids, id)
	}
	n.ids = ids
	weight := uint32(1)
	ours := func() {
		weight = 3 - weight
		n.members[ids[3]].Weight = weight
		n.retarget()
	}
	targets := make([]string, SlotCount)
	floor := func() {
		hashes := make([]uint64, count)
		for i, id := range ids {
			hashes[i] = xxhash.Sum64String(id)
		}
		for s := range targets {
			best, most := 0, math.Inf(-1)
			for i, h := range hashes {
				u := (float64(mix64(h^mix64(uint64(s)+1))>>11) + 0.5) / (1 << 53)
				if score := -1 / math.Log(u); score > most {
					best, most = i, score
				}
			}
			targets[s] = ids[best]
		}
	}
	per := func(f func()) float64 {
		began, done := time.Now(), 0
		for time.Since(began) < time.Second {
			f()
			done++
		}
		return float64(done) / time.Since(began).Seconds()
	}
	var o, f []float64
	for range 3 {
		f, o = append(f, per(floor)), append(o, per(ours))
	}
	slices.Sort(o)
	slices.Sort(f)
	line, err := json.Marshal(map[string]any{"name": "targets of 16,384 slots among 9 members, computed anew", "unit": "times/s", "ours": o[1], "floor": f[1],
		"ratio": o[1] / f[1], "goal": "ratio >= 0.50", "met": o[1] >= f[1]/2})
	if err != nil {
		b.Fatal(err)
	}
	fmt.Printf("\nBENCH %s\n", line)
	b.ReportMetric(1e6/o[1], "µs")
	b.ReportMetric(o[1]/f[1], "ratio")
	b.ReportMetric(0, "ns/op")
}
