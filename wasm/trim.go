package wasm

import (
	"sync"
	"time"
)

// trimTick is how often idle instances are looked at.
const trimTick = 5 * time.Second

// trimmer calls a function now and then.
type trimmer struct {
	quit chan struct{}
	done sync.WaitGroup
}

func (t *trimmer) start(trim func(now time.Time)) {
	t.quit = make(chan struct{})
	t.done.Go(func() {
		ticker := time.NewTicker(trimTick)
		defer ticker.Stop()
		for {
			select {
			case <-t.quit:
				return
			case now := <-ticker.C:
				trim(now)
			}
		}
	})
}

func (t *trimmer) close() {
	close(t.quit)
	t.done.Wait()
}
