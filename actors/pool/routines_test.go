package pool

import (
	"sync"
	"testing"
)

func TestRoutinesRunEverything(t *testing.T) {
	var r Routines
	var wg sync.WaitGroup
	var mu sync.Mutex
	ran := map[int]int{}
	for i := range 1000 {
		wg.Add(1)
		r.Go(func() {
			defer wg.Done()
			mu.Lock()
			ran[i]++
			mu.Unlock()
		})
		if i == 500 {
			r.Close()
		}
	}
	wg.Wait()
	if len(ran) != 1000 {
		t.Errorf("%d of 1000 ran", len(ran))
	}
	for i, n := range ran {
		if n != 1 {
			t.Errorf("function %d ran %d times", i, n)
		}
	}
	r.Close()
}
