package actors

import (
	"github.com/polluxhq/pollux/actors/model"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

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

// messageTimes gives the bounds of a project's messages; where its settings cannot be read the defaults.
func (e *Engine) messageTimes(project string) model.Times {
	s, _ := e.registry.projectSettings(project)
	return timesOf(s)
}
