package history

import (
	"sync"
	"time"
)

// marks remembers which log index was inserted when, a second apart at least, and tells what has settled.
type marks struct {
	settle time.Duration

	mu      sync.Mutex
	pending []mark // oldest first; at most settle in seconds, and one
	settled uint64
	seen    time.Time // the last look at the clock
}

type mark struct {
	index uint64
	at    time.Time
}

// add notes that everything up to index was inserted by now. An index lower than the last one is a repetition.
func (m *marks) add(index uint64, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance(now)
	if n := len(m.pending); n > 1 && m.pending[n-1].at.Sub(m.pending[n-2].at) < time.Second {
		// The last mark takes this one in. Its time moves too: later is safe.
		m.pending[n-1] = mark{max(index, m.pending[n-1].index), now}
		return
	}
	m.pending = append(m.pending, mark{index, now})
}

// maxStep is what one look at the clock counts at most: while the process was stopped VictoriaMetrics flushed nothing, so
// that time settles nothing. Advance is called every few seconds.
const maxStep = 15 * time.Second

func (m *marks) advance(now time.Time) {
	if gap := now.Sub(m.seen); !m.seen.IsZero() && gap > maxStep {
		for i := range m.pending {
			m.pending[i].at = m.pending[i].at.Add(gap - maxStep)
		}
	}
	m.seen = now
	n := 0
	for n < len(m.pending) && now.Sub(m.pending[n].at) >= m.settle {
		m.settled = max(m.settled, m.pending[n].index)
		n++
	}
	m.pending = append(m.pending[:0], m.pending[n:]...)
}

func (m *marks) durable(now time.Time) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance(now)
	return m.settled
}

// all declares everything durable.
func (m *marks) all() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.pending {
		m.settled = max(m.settled, k.index)
	}
	m.pending = nil
}
