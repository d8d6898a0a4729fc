package journal

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Rising is what one client wrote to one key: values that rise, each sent until it is acknowledged or given up. The zero
// value is ready; safe for concurrent use.
type Rising struct {
	mu                sync.Mutex
	sent, acked       float64
	acknowledgedCount int
}

// Sending notes that a value is about to be sent.
func (r *Rising) Sending(v float64) {
	r.mu.Lock()
	r.sent = max(r.sent, v)
	r.mu.Unlock()
}

// Acknowledged notes that a value was.
func (r *Rising) Acknowledged(v float64) {
	r.mu.Lock()
	r.acked = max(r.acked, v)
	r.acknowledgedCount++
	r.mu.Unlock()
}

// Range gives the last value acknowledged and the last sent.
func (r *Rising) Range() Range {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Range{r.acked, r.sent, r.acknowledgedCount}
}

// Range is what a key may hold at the end: Acked or anything newer, up to Sent.
type Range struct {
	Acked, Sent float64
	// Count of acknowledged writes.
	Count int
}

// Kept checks that every node reads, for each key, the last value that was acknowledged or a newer one that was sent.
func Kept(name string, want map[string]Range, reads map[string]map[string]float64) Verdict {
	v := Verdict{Name: name}
	if len(reads) == 0 {
		v.violate("no node was read")
	}
	count := 0
	for _, key := range sorted(want) {
		w := want[key]
		count += w.Count
		for _, node := range sorted(reads) {
			v.Checked++
			got, ok := reads[node][key]
			switch {
			case !ok && w.Acked > 0:
				v.violate("%s: %s is not there; %v was acknowledged", node, key, w.Acked)
			case ok && (got < w.Acked || got > w.Sent):
				v.violate("%s: %s is %v; %v was acknowledged, %v the last that was sent", node, key, got, w.Acked, w.Sent)
			}
		}
	}
	v.Note = fmt.Sprintf("%d acknowledged, read on %d nodes", count, len(reads))
	return v
}

// There checks that every node has each record whose creation was acknowledged.
func There(created []string, have map[string]map[string]bool) Verdict {
	v := Verdict{Name: "records created"}
	if len(have) == 0 {
		v.violate("no node was read")
	}
	for _, node := range sorted(have) {
		for _, id := range created {
			v.Checked++
			if !have[node][id] {
				v.violate("%s: %s was created and is not there", node, id)
			}
		}
	}
	v.Note = fmt.Sprintf("%d acknowledged, read on %d nodes", len(created), len(have))
	return v
}

// InHistory checks that each acknowledged value of a key is a sample. reads holds the samples by node.
func InHistory(acked map[string][]float64, reads map[string]map[string][]float64) Verdict {
	v := Verdict{Name: "values in history"}
	if len(reads) == 0 {
		v.violate("no node was read")
	}
	for _, node := range sorted(reads) {
		for _, key := range sorted(acked) {
			have := map[float64]bool{}
			for _, s := range reads[node][key] {
				have[s] = true
			}
			missing := slices.DeleteFunc(slices.Clone(acked[key]), func(value float64) bool { return have[value] })
			v.Checked += len(acked[key])
			if len(missing) > 0 {
				v.violate("%s: %s lacks %d of %d acknowledged values, %v the first", node, key, len(missing), len(acked[key]), missing[0])
			}
		}
	}
	return v
}

// Alike checks that all nodes gave the same text, such as a checksum of their state.
func Alike(name string, of map[string]string) Verdict {
	v := Verdict{Name: name}
	if len(of) < 2 {
		v.violate("%d nodes were read; one compares with nothing", len(of))
	}
	nodes := sorted(of)
	for _, n := range nodes {
		v.Checked++
		if of[n] == "" {
			v.violate("%s says nothing", n)
		} else if of[n] != of[nodes[0]] {
			v.violate("%s has %s, %s has %s", n, of[n], nodes[0], of[nodes[0]])
		}
	}
	return v
}

// NoneFailed checks that no call of the list failed.
func NoneFailed(name string, calls []Call) Verdict {
	v := Verdict{Name: name}
	for _, c := range calls {
		v.Checked++
		if c.Outcome != Done {
			v.violate("%s: call %d by %s at %s, for %v: %v: %s", c.Twin, c.Number, c.Node, clock(c.Sent),
				c.Ended.Sub(c.Sent).Round(time.Millisecond), c.Outcome, c.Error)
		}
	}
	return v
}
