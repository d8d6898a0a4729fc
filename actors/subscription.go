package actors

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// ErrSlow: a watcher fell so far behind that even what it missed cannot be told.
var ErrSlow = errors.New("watcher too slow")

const (
	heartbeat = 10 * time.Second
	// maxGaps bounds the twins of which a watcher has missed something.
	maxGaps = 65_536
)

type pushKind uint8

const (
	pushChange pushKind = iota
	pushWhole
)

// Subscription is a watcher: the first value of each twin that matches, then its changes, in order per twin. Where the
// reader is slow its twins' changes are dropped and counted, and the whole state follows when there is room again.
type Subscription struct {
	e      *Engine
	req    *pb.WatchTwinsRequest
	filter *pb.TwinFilter
	ids    map[string]bool
	props  map[string]bool
	where  *expr.Expr
	// inside are the twins for which where holds, as the watcher knows.
	insideMu sync.Mutex
	inside   map[string]bool
	projects func(string) bool
	closed   atomic.Bool
	stop     chan struct{}

	// view names the properties that are wanted; "" is all.
	view string

	mu     sync.Mutex
	queue  []*Told // a ring
	head   int
	n      int
	gaps   map[string]*gap
	err    error
	notify chan struct{} // there is something to take
	space  chan struct{} // the queue is at most half full
	// beat gives notice when the next heartbeat is due, at beatAt; nil: the first is.
	beat   *time.Timer
	beatAt time.Time
	// arrived are slots that this node gained and whose twins the watcher has yet to be given; walking: it is being done.
	arrived map[cluster.Slot]bool
	walking bool
}

// gap says what a reader missed of a twin.
type gap struct {
	missed uint64
	asked  bool // the whole state is on its way
}

func newSubscription(e *Engine, req *pb.WatchTwinsRequest, projects func(string) bool) (*Subscription, error) {
	s := &Subscription{e: e, req: req, filter: req.Filter, projects: projects, stop: make(chan struct{}),
		gaps: map[string]*gap{}, notify: make(chan struct{}, 1), space: make(chan struct{}, 1)}
	if s.filter == nil {
		s.filter = &pb.TwinFilter{}
	}
	var err error
	if s.where, err = whereOf(s.filter); err != nil {
		return nil, err
	}
	ids, err := e.registry.members(s.filter)
	if err != nil {
		return nil, err
	}
	if len(s.filter.Ids) > 0 || s.filter.System != "" {
		s.ids = map[string]bool{}
		for _, id := range ids {
			full, err := CanonicalID(id)
			if err != nil {
				return nil, err
			}
			s.ids[full] = true
		}
	}
	if len(req.Properties) > 0 {
		s.props = map[string]bool{}
		for _, p := range req.Properties {
			s.props[p] = true
		}
		s.view = strings.Join(slices.Sorted(maps.Keys(s.props)), "\x00")
	}
	return s, nil
}

// matches says whether the twin's configuration is one that the watcher wants.
func (s *Subscription) matches(t *pb.Twin, e *Engine) bool {
	if s.projects != nil && !s.projects(ProjectOf(t.Id)) || s.ids != nil && !s.ids[t.Id] {
		return false
	}
	return matchFilter(s.filter, t, e.catalog)
}

// matchFilter looks at what a twin's configuration says; ids and live state are looked at elsewhere.
func matchFilter(f *pb.TwinFilter, t *pb.Twin, c *catalog) bool {
	switch {
	case f == nil:
		return true
	case f.Project != "" && ProjectOf(t.Id) != f.Project,
		f.Zone != "" && !inZone(c.store, t.Zone, f.Zone),
		f.Text != "" && !containsFold(t.Id, f.Text):
		return false
	}
	if name, _, _ := strings.Cut(t.Driver, "@"); f.Driver != "" && name != f.Driver {
		return false
	}
	for k, v := range f.Labels {
		if got, ok := t.Labels[k]; !ok || got != v {
			return false
		}
	}
	if f.Interface != "" {
		spec, err := c.forTwin(t)
		if err != nil || !slices.Contains(spec.manifest.Interfaces, f.Interface) {
			return false
		}
	}
	return f.Model == "" || c.isOf(t, f.Model)
}

// narrow leaves out the properties that the watcher does not want; nil: nothing is left. queued: the length of the queue is
// news.
func (s *Subscription) narrow(all *Told, d *pb.StateDelta, queued bool) *Told {
	if s.props == nil {
		return all
	}
	mine := &pb.StateDelta{Properties: pick(d.Properties, s.props), Desired: pick(d.Desired, s.props), Status: d.Status,
		Revision: d.Revision, Queued: d.Queued, Commands: d.Commands, DriverVersion: d.DriverVersion}
	told := len(d.Properties) > 0 || len(d.Desired) > 0
	if told && len(mine.Properties) == 0 && len(mine.Desired) == 0 && mine.Status == nil && d.DriverVersion == "" && !queued {
		return nil
	}
	return &Told{WatchTwinsResponse: &pb.WatchTwinsResponse{Id: all.Id, Change: &pb.WatchTwinsResponse_Delta{Delta: mine}}}
}

func pick[V any](from map[string]V, names map[string]bool) map[string]V {
	var out map[string]V
	for k, v := range from {
		if names[k] {
			if out == nil {
				out = map[string]V{}
			}
			out[k] = v
		}
	}
	return out
}

// whole pushes a whole state.
func (s *Subscription) whole(id string, st *pb.TwinState) {
	s.push(id, s.state(id, st), pushWhole)
}

// needs says whether the watcher is to be given the state of a twin: it is in the filter, or what was missed may have taken it out.
func (s *Subscription) needs(id string, p passage) bool { return p != outside || s.lacks(id) }

// state is a whole state with the properties that the watcher wants.
func (s *Subscription) state(id string, st *pb.TwinState) *Told {
	if s.props != nil {
		st = &pb.TwinState{Properties: pick(st.Properties, s.props), Desired: pick(st.Desired, s.props), Status: st.Status,
			Revision: st.Revision, Queued: st.Queued, DriverVersion: st.DriverVersion, Commands: st.Commands}
	}
	return &Told{WatchTwinsResponse: &pb.WatchTwinsResponse{Id: id, Change: &pb.WatchTwinsResponse_State{State: st}}}
}

// push queues a message, or notes that it was missed. It does not block.
func (s *Subscription) push(id string, m *Told, kind pushKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return
	}
	g := s.gaps[id]
	if g != nil && kind == pushChange {
		g.missed++
		s.e.stats.drop(dropWatcher)
		return
	}
	if s.n >= s.e.o.WatchQueue {
		s.e.stats.drop(dropWatcher)
		if g == nil {
			if len(s.gaps) >= maxGaps {
				s.fail(ErrSlow)
				return
			}
			g = &gap{}
			s.gaps[id] = g
		}
		g.missed++
		g.asked = false
		return
	}
	if g != nil {
		delete(s.gaps, id)
		m = &Told{WatchTwinsResponse: &pb.WatchTwinsResponse{Id: m.Id, Change: m.Change, Missed: g.missed}}
	}
	s.put(m)
}

func (s *Subscription) put(m *Told) {
	if s.n == len(s.queue) {
		bigger := make([]*Told, max(16, 2*len(s.queue)))
		for i := range s.n {
			bigger[i] = s.queue[(s.head+i)%len(s.queue)]
		}
		s.queue, s.head = bigger, 0
	}
	s.queue[(s.head+s.n)%len(s.queue)] = m
	s.n++
	signal(s.notify)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// lacks says whether the watcher waits for a twin's whole state.
func (s *Subscription) lacks(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gaps[id] != nil
}

// Poll gives the next message, or nil where there is none now: a heartbeat when the watch stands and each 10 s that are quiet, a twin's
// whole state, or a change. What it gives is shared between watchers. It does not block; one goroutine at a time may call it.
func (s *Subscription) Poll() (*Told, error) {
	m, repair, err := s.take()
	for _, id := range repair {
		s.e.hub.first(s, id, nil)
	}
	return m, err
}

// Ready gets something when Poll, which gave nothing, may give something again.
func (s *Subscription) Ready() <-chan struct{} { return s.notify }

// take gives the next message, or nil, and the twins whose gaps are to be filled, now that there is room.
func (s *Subscription) take() (m *Told, repair []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.beat == nil && s.err == nil {
		s.beatAt = time.Now().Add(heartbeat)
		s.beat = time.AfterFunc(heartbeat, func() { signal(s.notify) })
		return beatMessage, nil, nil
	}
	if s.n > 0 {
		m = s.queue[s.head]
		s.queue[s.head] = nil
		s.head = (s.head + 1) % len(s.queue)
		s.n--
	}
	repair = s.repairs()
	if m != nil {
		return m, repair, nil
	}
	if s.err != nil {
		return nil, repair, s.err
	}
	if now := time.Now(); !now.Before(s.beatAt) {
		s.beatAt = now.Add(heartbeat)
		s.beat.Reset(heartbeat)
		return beatMessage, repair, nil
	}
	return nil, repair, nil
}

// repairs are the twins of which something was missed and nothing is on its way yet, if there is room for them.
func (s *Subscription) repairs() (ids []string) {
	half := s.e.o.WatchQueue / 2
	if s.n > half {
		return nil
	}
	signal(s.space)
	for id, g := range s.gaps {
		if len(ids) > half/2 {
			break
		}
		if !g.asked {
			g.asked = true
			ids = append(ids, id)
		}
	}
	return ids
}

// Next waits for the next message, as Poll gives it. One goroutine at a time may call it.
func (s *Subscription) Next(ctx context.Context) (*Told, error) {
	for {
		if m, err := s.Poll(); m != nil || err != nil {
			return m, err
		}
		select {
		case <-s.notify:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

var beatMessage = &Told{WatchTwinsResponse: &pb.WatchTwinsResponse{Change: &pb.WatchTwinsResponse_Heartbeat{Heartbeat: true}}}

// Close ends the watch. It may be called more than once.
func (s *Subscription) Close() { s.end(ErrClosed) }

func (s *Subscription) end(err error) {
	s.mu.Lock()
	s.fail(err)
	s.mu.Unlock()
}

// fail ends the watch; its caller holds the lock.
func (s *Subscription) fail(err error) {
	if s.closed.Swap(true) {
		return
	}
	s.err = err
	if s.beat != nil {
		s.beat.Stop()
	}
	close(s.stop)
	signal(s.notify)
	s.e.goFunc(func() { s.e.hub.remove(s) }) // the hub's lock is never taken under this one
}

func (s *Subscription) ended() bool { return s.closed.Load() }
