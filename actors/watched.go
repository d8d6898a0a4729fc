package actors

import (
	"maps"
	"slices"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// watched is what a twin has of its watchers.
type watched struct {
	by []*Subscription
	// queued is the length of the queue that they know, seen when they think that the device spoke last.
	queued uint32
	seen   int64
	// delta is what they are told at the end of the turn: one message for all that a turn changes.
	delta *pb.StateDelta
}

func (t *twin) watchers() []*Subscription {
	if t.watched == nil {
		return nil
	}
	return t.watched.by
}

// attach brings a watcher to an active twin.
type attach struct{ sub *Subscription }

func (m *attach) run(t *twin) {
	switch t.mode {
	case modeLive, modeLeaving:
	case modeAbsent, modeDeleting:
		m.sub.push(t.en.id, deletedMessage(t.en.id), pushWhole)
		return
	default:
		return
	}
	if slices.Contains(t.watchers(), m.sub) {
		if m.sub.lacks(t.en.id) {
			m.sub.whole(t.en.id, t.show(false))
		}
		return
	}
	rec, err := t.e.readTwin(t.en.id)
	if err == nil && rec != nil && m.sub.matches(rec, t.e) {
		t.attach(m.sub)
	}
}

// attach adds a watcher, which gets the whole state before anything else.
func (t *twin) attach(s *Subscription) {
	if slices.Contains(t.watchers(), s) {
		return
	}
	t.speak()
	if len(t.watchers()) == 0 {
		t.watched = &watched{queued: t.waitingCommands(), seen: t.st.LastSeen}
	}
	t.watched.by = append(t.watched.by, s)
	if s.needs(t.en.id, t.pass(s)) {
		s.whole(t.en.id, t.show(false))
	}
	if s.req.Logs {
		t.logs.each(func(l *pb.LogLine) { s.push(t.en.id, logMessage(t.en.id, l), pushChange) })
	}
}

// tell gives each watcher what build makes for it, and forgets those that have ended.
func (t *twin) tell(build func(s *Subscription) *Told) {
	w := t.watched
	kept := w.by[:0]
	for _, s := range w.by {
		if s.ended() {
			continue
		}
		kept = append(kept, s)
		if m := build(s); m != nil {
			s.push(t.en.id, m, pushChange)
		}
	}
	clear(w.by[len(kept):])
	w.by = kept
}

// emitDelta has a change told at the end of the turn, with what else changes until then. What would take another value's place is
// told after that one.
func (t *twin) emitDelta(d *pb.StateDelta) {
	if len(t.watchers()) == 0 {
		return
	}
	if t.watched.delta != nil {
		if join(t.watched.delta, d) {
			return
		}
		t.speak()
	}
	t.watched.delta = d
}

// join adds what d says to all, unless that says something of the same.
func join(all, d *pb.StateDelta) bool {
	if all.Status != nil && d.Status != nil || len(all.Commands) > 0 && len(d.Commands) > 0 || overlap(all.Properties, d.Properties) || overlap(all.Desired, d.Desired) {
		return false
	}
	all.Properties, all.Desired = united(all.Properties, d.Properties), united(all.Desired, d.Desired)
	if d.Status != nil {
		all.Status = d.Status
	}
	all.Commands = append(all.Commands, d.Commands...)
	if d.DriverVersion != "" {
		all.DriverVersion = d.DriverVersion
	}
	return true
}

func overlap[V any](a, b map[string]V) bool {
	for k := range b {
		if _, ok := a[k]; ok {
			return true
		}
	}
	return false
}

func united[V any](a, b map[string]V) map[string]V {
	if len(a) == 0 {
		return b
	}
	maps.Copy(a, b)
	return a
}

// speak tells the watchers what the turn has changed so far.
func (t *twin) speak() {
	if t.watched == nil || t.watched.delta == nil {
		return
	}
	w := t.watched
	d := w.delta
	w.delta = nil
	if d.Status == nil && t.unseen() {
		d.Status = t.status()
	}
	if d.Status != nil {
		w.seen = t.st.LastSeen
	}
	queued := w.queued != t.waitingCommands()
	w.queued = t.waitingCommands()
	d.Revision, d.Queued = t.st.Revision, w.queued
	all := &Told{WatchTwinsResponse: &pb.WatchTwinsResponse{Id: t.en.id, Change: &pb.WatchTwinsResponse_Delta{Delta: d}}}
	var views views
	t.tell(func(s *Subscription) *Told {
		switch t.pass(s) {
		case outside:
			return nil
		case comes:
			s.whole(t.en.id, t.show(false))
			return nil
		}
		return views.of(s, func() *Told { return s.narrow(all, d, queued) })
	})
}

// views are a message as those see it who watch the same properties. It is made once for all of them.
type views map[string]*Told

func (v *views) of(s *Subscription, build func() *Told) *Told {
	m, ok := (*v)[s.view]
	if !ok {
		if *v == nil {
			*v = views{}
		}
		m = build()
		(*v)[s.view] = m
	}
	return m
}

// waitingCommands is the length of the command queue.
func (t *twin) waitingCommands() uint32 {
	if t.work == nil {
		return 0
	}
	return uint32(len(t.work.commands))
}

// emitQueue tells where only the length of the queue changed, or the device spoke and had nothing new to say.
func (t *twin) emitQueue() {
	if len(t.watchers()) > 0 && t.watched.delta == nil && (t.watched.queued != t.waitingCommands() || t.unseen() && t.work.idle()) {
		t.watched.delta = &pb.StateDelta{}
	}
}

// seenEvery is how often watchers are told that the device spoke, in milliseconds.
const seenEvery = 1000

// unseen says whether watchers have to be told that the device spoke.
func (t *twin) unseen() bool { return t.st.LastSeen-t.watched.seen >= seenEvery }

func (t *twin) status() *pb.TwinStatus {
	return t.troubled(&pb.TwinStatus{Connection: pb.Connection(t.st.Connection), LastSeen: state.Timestamp(t.st.LastSeen), Fault: t.st.Fault,
		Node: t.e.o.Node})
}

func (t *twin) emitStatus() {
	if len(t.watchers()) > 0 {
		t.emitDelta(&pb.StateDelta{Status: t.status()})
	}
}

// runs notes the version of the driver that runs from now on.
func (t *twin) runs(version string) {
	if t.st.Version == version {
		return
	}
	t.st.Version = version
	if len(t.watchers()) > 0 {
		t.emitDelta(&pb.StateDelta{DriverVersion: version})
	}
}

func (t *twin) emitDesired(d *state.Desired) {
	if len(t.watchers()) > 0 {
		t.emitDelta(&pb.StateDelta{Desired: map[string]*pb.Desired{d.Name.Value(): t.desired(d)}})
	}
}

// emitWhole gives every watcher the whole state.
func (t *twin) emitWhole() {
	t.speak()
	t.watched.queued, t.watched.seen = t.waitingCommands(), t.st.LastSeen
	st := t.show(false)
	var views views
	for _, s := range t.watchers() {
		if s.needs(t.en.id, t.pass(s)) {
			s.push(t.en.id, views.of(s, func() *Told { return s.state(t.en.id, st) }), pushWhole)
		}
	}
}

func (t *twin) emitEvent(v drivers.Emitted) {
	if len(t.watchers()) == 0 {
		return
	}
	t.speak()
	data := state.Value{}
	if len(v.Data) > 0 {
		data, _ = state.ParseValue(v.Data) // null where the driver gave no JSON
	}
	m := &Told{WatchTwinsResponse: &pb.WatchTwinsResponse{Id: t.en.id, Change: &pb.WatchTwinsResponse_Event{
		Event: &pb.TwinEvent{Name: v.Name, Data: data.Proto(), Time: state.Timestamp(t.stamp())}}}}
	t.tell(func(s *Subscription) *Told {
		if !s.req.Events || !s.has(t.en.id) {
			return nil
		}
		return m
	})
}

func (t *twin) emitLog(l *pb.LogLine) {
	if len(t.watchers()) == 0 {
		return
	}
	t.speak()
	m := logMessage(t.en.id, l)
	t.tell(func(s *Subscription) *Told {
		if !s.req.Logs || !s.has(t.en.id) {
			return nil
		}
		return m
	})
}
