package wasm

import "time"

// strikes count the calls of a tenant that were stopped or crashed; half of them are forgotten now and then.
type strikes struct {
	n  int
	at time.Time
}

// now is what is left of them.
func (s strikes) now() int {
	return s.n >> min(max(0, time.Since(s.at)/strikeHalves), 16)
}

// struck gives a tenant's strikes. The caller holds the lock.
func (p *Pool) struck(tenant string) int {
	if len(p.blamed) == 0 {
		return 0
	}
	return p.blamed[tenant].now()
}

// strike adds one. The caller holds the lock.
func (p *Pool) strike(tenant string) {
	p.blamed[tenant] = strikes{n: min(p.struck(tenant)+1, strikesMost), at: time.Now()}
	p.blaming.Store(true)
}

// incorrigible says whether a tenant keeps being stopped or crashing. All such together have half of the running places.
func (p *Pool) incorrigible(tenant string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.struck(tenant) >= strikesHeavy
}
