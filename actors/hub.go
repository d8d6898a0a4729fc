package actors

import (
	"slices"
	"strings"
	"sync"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/cluster"
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
	all := h.candidates(t.en.id)
	if len(all) == 0 && t.watched == nil {
		return
	}
	rec, err := h.e.readTwin(t.en.id)
	if err != nil || rec == nil {
		return
	}
	if t.watched != nil {
		t.speak()
		t.watched.by = slices.DeleteFunc(t.watched.by, func(s *Subscription) bool { return !s.matches(rec, h.e) })
	}
	for _, s := range all {
		if s.matches(rec, h.e) {
			t.attach(s)
		}
	}
}

func (h *hub) passivated(t *twin) { t.watched = nil }

// deleted tells who watches a twin that it is gone. Where it came to life only for that, nobody is known to watch it, and all hear of it whose
// filter may have let it through.
func (h *hub) deleted(t *twin) {
	t.speak()
	told := t.watchers()
	if t.cfg == nil {
		told = slices.DeleteFunc(h.candidates(t.en.id), func(s *Subscription) bool { return !s.mayKnow(t.en.id) })
	}
	m := deletedMessage(t.en.id)
	for _, s := range told {
		s.pass(t.en.id, false)
		s.push(t.en.id, m, pushWhole)
	}
	t.watched = nil
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
		m.sub.push(m.id, deletedMessage(m.id), pushWhole)
		return
	case !m.sub.matches(rec, s.e):
		return
	}
	st, _ := s.e.stored(m.id)
	shown := st.Proto(s.e.o.Node, own.Since)
	holds := m.sub.wants(shown.GetStatus().GetConnection(), st.Fault != "")
	if holds && m.sub.where != nil {
		view := s.e.sight(rec, st, own.Since)
		holds = m.sub.where.Matches(&expr.Input{Twin: &view})
	}
	if m.sub.needs(m.id, m.sub.pass(m.id, holds)) {
		m.sub.whole(m.id, shown)
	}
}

func containsFold(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}
