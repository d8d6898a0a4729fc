package actors_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// load calls an action of so many twins at a rate for a while, and gives how long each call took, and how many failed.
func (n *node) load(b *testing.B, twins, perSecond int, span time.Duration) (took []time.Duration, failed int) {
	const workers = 256
	in := value(b, `1`)
	due := make(chan int, perSecond) // a second of delay is told from a stop
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range due {
				began := time.Now()
				_, err := n.client.Invoke(b.Context(), &pb.InvokeRequest{Id: "default/t" + strconv.Itoa(i%twins), Action: "echo", Input: in}, "x")
				d := time.Since(began)
				mu.Lock()
				took = append(took, d)
				if err != nil {
					failed++
					b.Log(err)
				}
				mu.Unlock()
			}
		}()
	}
	began := time.Now()
	for i := 0; time.Since(began) < span; {
		for ; i < int(time.Since(began).Seconds()*float64(perSecond)); i++ {
			due <- i
		}
		time.Sleep(time.Millisecond)
	}
	close(due)
	wg.Wait()
	slices.Sort(took)
	return took, failed
}

func p99(took []time.Duration) float64 {
	return float64(took[len(took)*99/100].Microseconds()) / 1000
}

// BenchmarkSwap changes the version of 100 twins four times under 5,000 calls a second. The floor is the same load while
// nothing is changed.
func BenchmarkSwap(b *testing.B) {
	const twins, perSecond, swaps = 100, 5000, 4
	n := newNode(b)
	n.driver("probe", "1.0.0", "")
	for i := range twins {
		n.twin(fmt.Sprintf(`{"id":"t%d","driver":"probe"}`, i))
		n.must(fmt.Sprintf("t%d", i), "count", "")
	}
	n.stage("probe", "2.0.0", "", titled("two"))
	// Both versions are loaded once before.
	n.twin(`{"id":"two","driver":"probe@2.0.0"}`)
	n.must("two", "count", "")
	calm, _ := n.load(b, twins, perSecond, 2*time.Second)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range swaps {
			time.Sleep(500 * time.Millisecond)
			if _, err := n.reg.Rollback(b.Context(), "probe", []string{"2.0.0", "1.0.0"}[i%2], "bench"); err != nil {
				b.Error(err)
			}
		}
	}()
	took, failed := n.load(b, twins, perSecond, 3*time.Second)
	<-done
	for i := range twins {
		n.wait("t"+strconv.Itoa(i), "migrated", `"2.0.0"`)
	}
	ours, floor := p99(took), p99(calm)
	line, err := json.Marshal(map[string]any{"name": fmt.Sprintf("driver swap, p99 of %d calls/s (%d failed)", perSecond, failed), "unit": "ms",
		"ours": ours, "floor": floor, "ratio": ours / floor, "goal": "0 failed, p99 ≤ 50 ms", "met": failed == 0 && ours <= 50})
	if err != nil {
		b.Fatal(err)
	}
	fmt.Printf("BENCH %s\n", line)
	b.ReportMetric(ours, "ms-p99")
	b.ReportMetric(float64(failed), "failed")
}
