package actors

import (
	"slices"
	"strings"
	"sync"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// maxWatchers bounds the watchers on a node.
const maxWatchers = 10_000

// hub holds the watchers of this node. A filter is matched where the twin lives: when the twin is activated, when a
// watcher comes, and when the twin's configuration changes. What a twin then tells, it tells those in its own list.
type hub struct {
	e    *Engine
	mu   sync.RWMutex
	byID map[string][]*Subscription // those who name their twins
	wide []*Subscription            // all others
	n    int
}

func newHub(e *Engine) *hub { return &hub{e: e, byID: map[string][]*Subscription{}} }

func (h *hub) watchers() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.n
}

func (h *hub) add(s *Subscription) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n >= maxWatchers {
		return false
	}
	h.n++
	if len(s.ids) == 0 {
		h.wide = append(h.wide, s)
		return true
	}
	for id := range s.ids {
		h.byID[id] = append(h.byID[id], s)
	}
	return true
}

func (h *hub) remove(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n--
	if len(s.ids) == 0 {
		h.wide = slices.DeleteFunc(h.wide, func(o *Subscription) bool { return o == s })
		return
	}
	for id := range s.ids {
		kept := slices.DeleteFunc(h.byID[id], func(o *Subscription) bool { return o == s })
		if h.byID[id] = kept; len(kept) == 0 {
			delete(h.byID, id)
		}
	}
}

// gained gives the watchers the twins of slots that came.
func (h *hub) gained(slots []cluster.Slot) {
	if len(slots) == 0 || h.watchers() == 0 {
		return
	}
	h.mu.RLock()
	all := slices.Clone(h.wide)
	seen := map[*Subscription]bool{}
	for _, subs := range h.byID {
		for _, s := range subs {
			if !seen[s] {
				seen[s] = true
				all = append(all, s)
			}
		}
	}
	h.mu.RUnlock()
	for _, s := range all {
		s.gained(slots)
	}
}

// candidates are the watchers that may want a twin.
func (h *hub) candidates(id string) []*Subscription {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.n == 0 || len(h.wide) == 0 && len(h.byID[id]) == 0 {
		return nil
	}
	return slices.Concat(h.wide, h.byID[id])
}

func (h *hub) close() {
	h.mu.RLock()
	all := slices.Clone(h.wide)
	for _, subs := range h.byID {
		all = append(all, subs...)
	}
	h.mu.RUnlock()
	for _, s := range all {
		s.end(ErrClosed)
	}
}

// activated gives a twin that came to life the watchers that want it.
func (h *hub) activated(t *twin) {
	all := h.candidates(t.en.id)
	if len(all) == 0 {
		return
	}
	rec, err := h.e.readTwin(t.en.id)
	if err != nil || rec == nil {
		return
	}
	for _, s := range all {
		if s.matches(rec, h.e) {
			t.attach(s)
		}
	}
}

// reconfigured matches a twin anew.
func (h *hub) reconfigured(t *twin) {
	rec, err := h.e.readTwin(t.en.id)
	if err != nil || rec == nil {
		return
	}
	t.watchers = slices.DeleteFunc(t.watchers, func(s *Subscription) bool { return !s.matches(rec, h.e) })
	for _, s := range h.candidates(t.en.id) {
		if s.matches(rec, h.e) {
			t.attach(s)
		}
	}
}

func (h *hub) passivated(t *twin) { t.watchers = nil }

func (h *hub) deleted(t *twin) {
	for _, s := range t.watchers {
		s.pass(t.en.id, nil)
		s.push(t.en.id, &pb.WatchTwinsResponse{Id: t.en.id, Change: &pb.WatchTwinsResponse_Deleted{Deleted: true}}, pushWhole)
	}
	t.watchers = nil
}

// recorded: a twin's record was written. Watchers that want it get its state, whether it is active or not.
func (h *hub) recorded(rec *pb.Twin) {
	for _, s := range h.candidates(rec.Id) {
		if s.matches(rec, h.e) {
			h.first(s, rec.Id, nil)
		}
	}
}

// first has a watcher be given the state of a twin by the twin's shard, so that what the twin tells comes after it.
func (h *hub) first(s *Subscription, id string, fn func()) {
	h.e.system.Root.Send(h.e.shardOf(cluster.SlotOf(id)).pid, &shardFirst{id: id, sub: s, fn: fn})
}

// first gives a watcher a twin's state: through the twin, if it is active, else from the store.
func (s *shard) first(m *shardFirst) {
	if m.fn != nil {
		defer m.fn()
	}
	if m.sub.ended() {
		return
	}
	if en := s.entries[m.id]; en != nil && !en.stopping && !en.leaving {
		s.pass(en, &attach{m.sub})
		return
	}
	rec, err := s.e.readTwin(m.id)
	own := s.e.owned[s.e.slotOf(m.id)].Load()
	switch {
	case err != nil || own == nil:
		return
	case rec == nil:
		m.sub.push(m.id, &pb.WatchTwinsResponse{Id: m.id, Change: &pb.WatchTwinsResponse_Deleted{Deleted: true}}, pushWhole)
		return
	case !m.sub.matches(rec, s.e):
		return
	}
	st, _ := s.e.stored(m.id)
	if m.sub.where != nil {
		view := s.e.sight(rec, st, own.Since)
		if m.sub.pass(m.id, &expr.Input{Twin: &view}) == outside {
			return
		}
	}
	m.sub.whole(m.id, st.Proto(s.e.o.Node, own.Since))
}

// attach brings a watcher to an active twin.
type attach struct{ sub *Subscription }

func (m *attach) run(t *twin) {
	switch t.mode {
	case modeLive, modeLeaving:
	case modeAbsent, modeDeleting:
		m.sub.push(t.en.id, &pb.WatchTwinsResponse{Id: t.en.id, Change: &pb.WatchTwinsResponse_Deleted{Deleted: true}}, pushWhole)
		return
	default:
		return
	}
	if slices.Contains(t.watchers, m.sub) {
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
	if slices.Contains(t.watchers, s) {
		return
	}
	if len(t.watchers) == 0 {
		t.toldQueued, t.toldSeen = t.waitingCommands(), t.st.LastSeen
	}
	t.watchers = append(t.watchers, s)
	if t.pass(s) != outside {
		s.whole(t.en.id, t.show(false))
	}
	if s.req.Logs {
		t.logs.each(func(l *pb.LogLine) {
			s.push(t.en.id, &pb.WatchTwinsResponse{Id: t.en.id, Change: &pb.WatchTwinsResponse_Log{Log: l}}, pushChange)
		})
	}
}

// tell gives each watcher what build makes for it, and forgets those that have ended.
func (t *twin) tell(build func(s *Subscription) *pb.WatchTwinsResponse) {
	kept := t.watchers[:0]
	for _, s := range t.watchers {
		if s.ended() {
			continue
		}
		kept = append(kept, s)
		if m := build(s); m != nil {
			s.push(t.en.id, m, pushChange)
		}
	}
	clear(t.watchers[len(kept):])
	t.watchers = kept
}

func (t *twin) emitDelta(d *pb.StateDelta) {
	if len(t.watchers) == 0 {
		return
	}
	moved := d.Status != nil
	if !moved && t.unseen() {
		d.Status = t.status()
	}
	if d.Status != nil {
		t.toldSeen = t.st.LastSeen
	}
	queued := t.toldQueued != t.waitingCommands()
	t.toldQueued = t.waitingCommands()
	d.Revision, d.Queued = t.st.Revision, t.toldQueued
	all := &pb.WatchTwinsResponse{Id: t.en.id, Change: &pb.WatchTwinsResponse_Delta{Delta: d}}
	t.tell(func(s *Subscription) *pb.WatchTwinsResponse {
		if !moved && !s.wants(pb.Connection(t.st.Connection), t.st.Fault != "") {
			return nil
		}
		switch t.pass(s) {
		case outside:
			return nil
		case comes:
			s.whole(t.en.id, t.show(false))
			return nil
		}
		return s.narrow(all, d, queued)
	})
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
	if len(t.watchers) == 0 {
		return
	}
	if t.toldQueued != t.waitingCommands() || t.unseen() && t.work.idle() {
		t.emitDelta(&pb.StateDelta{})
	}
}

// seenEvery is how often watchers are told that the device spoke, in milliseconds.
const seenEvery = 1000

// unseen says whether watchers have to be told that the device spoke.
func (t *twin) unseen() bool { return t.st.LastSeen-t.toldSeen >= seenEvery }

func (t *twin) status() *pb.TwinStatus {
	return t.troubled(&pb.TwinStatus{Connection: pb.Connection(t.st.Connection), LastSeen: state.Timestamp(t.st.LastSeen), Fault: t.st.Fault,
		Node: t.e.o.Node})
}

func (t *twin) emitStatus() {
	if len(t.watchers) == 0 {
		return
	}
	t.emitDelta(&pb.StateDelta{Status: t.status()})
}

func (t *twin) emitDesired(d *state.Desired) {
	if len(t.watchers) == 0 {
		return
	}
	t.emitDelta(&pb.StateDelta{Desired: map[string]*pb.Desired{d.Name.Value(): t.desired(d)}})
}

// emitWhole gives every watcher the whole state.
func (t *twin) emitWhole() {
	t.toldQueued, t.toldSeen = t.waitingCommands(), t.st.LastSeen
	st := t.show(false)
	for _, s := range t.watchers {
		if t.pass(s) != outside {
			s.whole(t.en.id, st)
		}
	}
}

func (t *twin) emitEvent(v drivers.Emitted) {
	if len(t.watchers) == 0 {
		return
	}
	data := state.Value{}
	if len(v.Data) > 0 {
		data, _ = state.ParseValue(v.Data) // null where the driver gave no JSON
	}
	m := &pb.WatchTwinsResponse{Id: t.en.id, Change: &pb.WatchTwinsResponse_Event{
		Event: &pb.TwinEvent{Name: v.Name, Data: data.Proto(), Time: state.Timestamp(t.stamp())}}}
	t.tell(func(s *Subscription) *pb.WatchTwinsResponse {
		if !s.req.Events || !s.has(t.en.id) {
			return nil
		}
		return m
	})
}

func (t *twin) emitLog(l *pb.LogLine) {
	if len(t.watchers) == 0 {
		return
	}
	m := &pb.WatchTwinsResponse{Id: t.en.id, Change: &pb.WatchTwinsResponse_Log{Log: l}}
	t.tell(func(s *Subscription) *pb.WatchTwinsResponse {
		if !s.req.Logs || !s.has(t.en.id) {
			return nil
		}
		return m
	})
}

func containsFold(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}
