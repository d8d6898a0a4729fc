package drivers

import (
	"crypto/sha256"
	"sync"
	"time"
)

// spareTime is how long what Verify loaded is kept for Load, which follows where the file was uploaded.
const spareTime = 10 * time.Second

// spare is the runner of the file that was verified last. To load it again would take 60 ms of a processor for a driver in
// Go, right when its twins go over to it.
type spare struct {
	mu     sync.Mutex
	digest [sha256.Size]byte
	runner *runner
	timer  *time.Timer
	closed bool
}

// keep takes a runner over, in place of the one before.
func (s *spare) keep(digest [sha256.Size]byte, r *runner) {
	s.mu.Lock()
	old := s.runner
	if s.closed {
		old = r
	} else {
		s.digest, s.runner = digest, r
		if s.timer != nil {
			s.timer.Stop()
		}
		s.timer = time.AfterFunc(spareTime, func() { s.drop(r) })
	}
	s.mu.Unlock()
	if old != nil {
		_ = old.Close() // nothing is lost with an instance
	}
}

// take gives the runner of a file away, if it is kept.
func (s *spare) take(digest [sha256.Size]byte) *runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runner == nil || s.digest != digest {
		return nil
	}
	r := s.runner
	s.runner = nil
	s.timer.Stop()
	return r
}

// drop closes a runner that nobody took.
func (s *spare) drop(r *runner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runner == r {
		s.runner = nil
		_ = r.Close() // idle, so it takes no time
	}
}

func (s *spare) close() error {
	s.mu.Lock()
	s.closed = true
	r := s.runner
	s.runner = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.Close()
}
