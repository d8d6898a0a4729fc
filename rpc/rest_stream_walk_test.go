package rpc_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/polluxhq/pollux/test/harness"
)

// TestRestStreamWalk: whoever reads a property's stream, leaves at random, and comes back with the last id hears of each value once and in its order, or of
// a gap, and of the present one in the end.
func TestRestStreamWalk(t *testing.T) {
	harness.Seeds(t, 2, func(t *testing.T, seed uint64) {
		h, p := openHouse(t), fresh("streamwalk")
		h.another(t, p+"/a")
		at := "/v1/twins/" + p + "/a/properties/level"
		const last = 80
		var writer sync.WaitGroup
		var wrote atomic.Int64
		defer writer.Wait()
		put := func(v int) {
			if a := h.rest(t, h.admin, "PUT", at+"?wait=30s", fmt.Sprint(v)); a.status != 200 {
				t.Error(a.text)
			}
		}
		put(1)
		writer.Go(func() {
			for v := 2; v <= last; v++ {
				put(v)
				wrote.Store(int64(v))
			}
		})
		rnd := rand.New(rand.NewPCG(seed, 77))
		known, id := 0, ""
		for known < last {
			ctx, leave := context.WithCancel(t.Context())
			var headers []string
			if id != "" {
				headers = append(headers, "Last-Event-ID: "+id)
			}
			s := h.stream(ctx, t, h.admin, at, headers...)
			gap := id == ""
			for range 1 + rnd.IntN(6) {
				e := s.next()
				if e.name == "gap" {
					gap = true
					continue
				}
				v, err := strconv.Atoi(e.data)
				if err != nil || v <= known || v != known+1 && !gap {
					t.Fatalf("after %d comes %+v, gap told: %v", known, e, gap)
				}
				if known, id, gap = v, e.id, false; known == last {
					break
				}
			}
			leave()
			back := min(int64(known+rnd.IntN(4)), last)
			harness.Until(t, patience, "it was away for some values", func() bool { return wrote.Load() >= back || known == 1 })
		}
	})
}
