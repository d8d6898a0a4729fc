package rpc

import (
	"slices"
	"sync"
	"time"
)

// members tells watches that nodes came or went. One look at a time is taken for all of them, while there are any.
type members struct {
	s       *Server
	mu      sync.Mutex
	by      map[chan struct{}]bool
	looking bool
}

// follow gives what gets something when the living members may be others than they were at the call. Who follows has to leave.
func (m *members) follow() (changed <-chan struct{}, leave func()) {
	c := make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by == nil {
		m.by = map[chan struct{}]bool{}
	}
	m.by[c] = true
	if !m.looking {
		m.looking = true
		go m.look(m.s.others())
	}
	return c, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.by, c)
	}
}

// look ends when nobody follows any more.
func (m *members) look(last []string) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for range tick.C {
		now := m.s.others()
		same := slices.Equal(now, last)
		last = now
		m.mu.Lock()
		if len(m.by) == 0 {
			m.looking = false
			m.mu.Unlock()
			return
		}
		for c := range m.by {
			if !same {
				select {
				case c <- struct{}{}:
				default:
				}
			}
		}
		m.mu.Unlock()
	}
}
