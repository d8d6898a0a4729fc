package actors

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/polluxhq/pollux/actors/model"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// messageTimes keeps what projects say of the times of messages, as long as no project's settings change: it is asked for each message.
// Safe for concurrent use.
type messageTimes struct {
	mu    sync.Mutex // of who writes
	known atomic.Pointer[knownTimes]
}

// knownTimes are not changed any more.
type knownTimes struct {
	version uint64 // of the table of projects
	of      map[string]model.Times
}

// maxTimes are the projects whose bounds are kept.
const maxTimes = 1000

// timesOf are the bounds that settings give.
func timesOf(s *pb.ProjectSettings) model.Times {
	t := model.Times{Ahead: maxAhead, Age: maxAge, History: maxHistoryAge}
	if s.GetMaxAhead() != nil {
		t.Ahead = s.MaxAhead.AsDuration().Milliseconds()
	}
	if s.GetMaxHistoryAge() != nil {
		t.History = s.MaxHistoryAge.AsDuration().Milliseconds()
	}
	if t.Age = min(t.Age, t.History); s.GetMaxAge() != nil {
		t.Age = s.MaxAge.AsDuration().Milliseconds()
	}
	return t
}

// messageTimes gives the bounds of a project's messages.
func (e *Engine) messageTimes(project string) model.Times {
	m, version := &e.intake.times, e.store.Version(tableProjects)
	if k := m.known.Load(); k != nil && k.version == version {
		if t, ok := k.of[project]; ok {
			return t
		}
	}
	s, err := e.registry.projectSettings(project)
	t := timesOf(s)
	if err != nil {
		return t
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := &knownTimes{version, map[string]model.Times{}}
	if k := m.known.Load(); k != nil && k.version == version && len(k.of) < maxTimes {
		next.of = maps.Clone(k.of)
	}
	next.of[project] = t
	m.known.Store(next)
	return t
}
