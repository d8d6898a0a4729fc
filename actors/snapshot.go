package actors

import (
	"time"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// gained has the watcher given the state of each twin that matches in slots that came. Many that come one by one are
// walked through together.
func (s *Subscription) gained(slots []cluster.Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return
	}
	if s.arrived == nil {
		s.arrived = make(map[cluster.Slot]bool, len(slots))
	}
	for _, slot := range slots {
		s.arrived[slot] = true
	}
	if s.walking {
		return
	}
	s.walking = true
	s.e.goFunc(s.follow)
}

// gather is for how long slots that came are gathered.
const gather = 100 * time.Millisecond

// follow walks through slots that came, until no more come.
func (s *Subscription) follow() {
	for {
		select {
		case <-time.After(gather):
		case <-s.stop:
			return
		}
		s.mu.Lock()
		arrived := s.arrived
		s.arrived = nil
		s.walking = arrived != nil
		s.mu.Unlock()
		if arrived == nil {
			return
		}
		s.walk(func(id string) bool { return arrived[s.e.slotOf(id)] })
	}
}

// snapshot has the watcher given the state of each twin that matches.
func (s *Subscription) snapshot() { s.walk(func(string) bool { return true }) }

// walk has the watcher given the state of twins. It goes as fast as the reader does.
func (s *Subscription) walk(wanted func(id string) bool) {
	room := make(chan struct{}, 256)
	for id := range s.ids {
		if wanted(id) && !s.ask(id, room) {
			return
		}
	}
	if s.ids != nil {
		return
	}
	prefix, after := "", ""
	if s.filter.Project != "" {
		prefix = s.filter.Project + "/"
	}
	for {
		page, last, err := s.e.registry.page(prefix, after, 500, wanted, func(t *pb.Twin) bool { return s.matches(t, s.e) })
		if err != nil {
			s.end(err)
			return
		}
		for _, t := range page {
			if !s.ask(t.Id, room) {
				return
			}
		}
		if last == "" {
			return
		}
		after = last
	}
}

// ask has one twin's state pushed, once the queue has room.
func (s *Subscription) ask(id string, room chan struct{}) bool {
	for {
		s.mu.Lock()
		full := s.n > s.e.o.WatchQueue/2
		s.mu.Unlock()
		if !full {
			break
		}
		select {
		case <-s.space:
		case <-s.stop:
			return false
		}
	}
	select {
	case room <- struct{}{}:
	case <-s.stop:
		return false
	}
	s.e.hub.first(s, id, func() { <-room })
	return true
}
