package actors

import (
	"sync"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// The words of filters, and those of what twins say. They do not change.
var (
	twinWords = sync.OnceValues(func() (*expr.Env, error) { return expr.New(expr.ScopeTwin) })
	saidWords = sync.OnceValues(func() (*expr.Env, error) { return expr.New(expr.ScopeTwin | expr.ScopeChange) })
)

// condition compiles one; nil for an empty text.
func condition(words func() (*expr.Env, error), path, source string) (*expr.Expr, error) {
	if source == "" {
		return nil, nil
	}
	env, err := words()
	if err != nil {
		return nil, err
	}
	x, err := env.Condition(source)
	if err != nil {
		return nil, invalid(path, "%v", err)
	}
	return x, nil
}

// whereOf compiles the filter's expression; nil: it has none.
func whereOf(f *pb.TwinFilter) (*expr.Expr, error) {
	return condition(twinWords, "/filter/where", f.GetWhere())
}

// sight is a twin as expressions see it.
func (e *Engine) sight(t *pb.Twin, st *state.Record, since uint64) expr.Twin {
	return expr.Twin{Config: t, State: st, Since: since, Model: e.catalog.modelName(t)}
}

// isOf says whether a twin is of the model that is so called: by its id, or where there is none, by the title of it or of its driver's. Titles are shared.
func (c *catalog) isOf(t *pb.Twin, name string) bool {
	spec, err := c.forTwin(t)
	if err != nil {
		return false
	}
	id := within(ProjectOf(t.Id), name)
	if t.Model == id || spec.title != name {
		return t.Model == id
	}
	_, there, err := c.store.Get(tableThings, id)
	return err == nil && !there
}

// modelName is the id of a twin's model, or the title that its driver gives.
func (c *catalog) modelName(t *pb.Twin) string {
	if t.Model != "" {
		return t.Model
	}
	if spec, err := c.forTwin(t); err == nil {
		return spec.title
	}
	return ""
}

// stored is a twin's state as last committed, and the revision since which its owner has it.
func (e *Engine) stored(id string) (*state.Record, uint64) {
	_, since := e.where(id)
	if rec, ok, err := e.store.Get(tableStates, id); err == nil && ok {
		if st, err := state.Decode(rec.Value); err == nil {
			return st, since
		}
	}
	return &state.Record{}, since
}

// holds evaluates the filter's expression on a twin and its state as last committed.
func (s *Subscription) holds(t *pb.Twin) bool {
	if s.where == nil {
		return true
	}
	st, since := s.e.stored(t.Id)
	view := s.e.sight(t, st, since)
	return s.where.Matches(&expr.Input{Twin: &view})
}

// passage is what a watcher's expression makes of a twin.
type passage uint8

const (
	outside passage = iota
	comes           // the watcher has to be given the whole state
	inside
	goes // the watcher is told what took it out
)

// live says whether the filter looks at what changes with the twin, not only at what is configured.
func (s *Subscription) live() bool {
	return s.where != nil || s.filter.Connection != 0 || s.filter.Faulty
}

// wants says whether the filter lets a twin of that connection through.
func (s *Subscription) wants(c pb.Connection, faulty bool) bool {
	return (s.filter.Connection == 0 || s.filter.Connection == c) && (!s.filter.Faulty || faulty)
}

// pass notes whether a twin is in the filter now, and says what that means.
func (s *Subscription) pass(id string, now bool) passage {
	if !s.live() {
		return inside
	}
	s.insideMu.Lock()
	defer s.insideMu.Unlock()
	before := s.inside[id]
	switch {
	case now && before:
		return inside
	case now:
		if s.inside == nil {
			s.inside = map[string]bool{}
		}
		s.inside[id] = true
		return comes
	case before:
		delete(s.inside, id)
		return goes
	}
	return outside
}

// pass is that of an active twin, in its turn.
func (t *twin) pass(s *Subscription) passage {
	if !s.live() {
		return inside
	}
	now := s.wants(pb.Connection(t.st.Connection), t.st.Fault != "")
	if now && s.where != nil {
		r := t.outlook()
		now = r != nil && s.where.Matches(&r.in)
	}
	return s.pass(t.en.id, now)
}

// mayKnow says whether the watcher may have been given a twin of which nothing is left but the id.
func (s *Subscription) mayKnow(id string) bool {
	return (s.projects == nil || s.projects(ProjectOf(id))) && (s.filter.Project == "" || s.filter.Project == ProjectOf(id)) &&
		(s.filter.Text == "" || containsFold(id, s.filter.Text)) && s.has(id)
}

// has says whether the watcher was given the twin.
func (s *Subscription) has(id string) bool {
	if !s.live() {
		return true
	}
	s.insideMu.Lock()
	defer s.insideMu.Unlock()
	return s.inside[id]
}
