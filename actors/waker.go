package actors

import (
	"container/heap"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage"
)

// waker activates passive twins whose timers are due. Of each slot it knows only when the next record is due; the
// records are in the store, in the order of their times.
//
// Records of active twins may be overdue: those twins mind their timers themselves. They are passed over at each look.
type waker struct {
	e    *Engine
	wake chan struct{}

	mu    sync.Mutex
	next  map[cluster.Slot]int64
	queue dueHeap // may hold outdated entries
	news  uint64  // counts what note was told

	// gap are slots without records, as of when news was gapNews. It belongs to run.
	gap     stretch
	gapNews uint64
	// stepped is how far the clock had been set at the last look. It belongs to run.
	stepped int64
	// begun counts the twins that were woken, since the last pause at paused.
	begun  int
	paused time.Time
}

// wakeRate is how many twins are woken for each one that is started because it holds a connection: their timers may all be
// due when the node has gained many slots.
const wakeRate = 10

// pace keeps the twins that are woken to a bounded rate.
func (w *waker) pace() {
	const portions = 50 // a second
	if w.begun++; w.begun < max(1, wakeRate*w.e.o.StartRate/portions) {
		return
	}
	w.begun = 0
	if wait := time.Second/portions - time.Since(w.paused); wait > 0 {
		w.e.pause(wait)
	}
	w.paused = time.Now()
}

// stretch are the slots between two, none of which has a record in some table. Most slots have none.
type stretch struct{ from, until int }

func (g stretch) has(s cluster.Slot) bool { return g.from < int(s) && int(s) < g.until }

// gapBehind looks for the next slot behind s that has a record.
func (e *Engine) gapBehind(table storage.Table, s cluster.Slot) stretch {
	for rec, err := range e.store.Scan(table, "", slotKey(s)+"\xff") {
		n, bad := strconv.ParseUint(rec.Key[:min(4, len(rec.Key))], 16, 16)
		if err != nil || bad != nil {
			return stretch{}
		}
		return stretch{int(s), int(n)}
	}
	return stretch{int(s), cluster.SlotSpace}
}

type dueSlot struct {
	due  int64
	slot cluster.Slot
}

type dueHeap []dueSlot

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	return h[i].due < h[j].due || h[i].due == h[j].due && h[i].slot < h[j].slot
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)   { *h = append(*h, x.(dueSlot)) }
func (h *dueHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

func newWaker(e *Engine) *waker {
	return &waker{e: e, wake: make(chan struct{}, 1), next: map[cluster.Slot]int64{}}
}

// note says that a twin of the slot has a record that is due then.
func (w *waker) note(slot cluster.Slot, due int64) {
	w.mu.Lock()
	w.news++
	if old, ok := w.next[slot]; !ok || due < old {
		w.next[slot] = due
		heap.Push(&w.queue, dueSlot{due, slot})
		signal(w.wake)
	}
	w.mu.Unlock()
}

// gained has the slots looked at at once.
func (w *waker) gained(slots []cluster.Slot) {
	for _, s := range slots {
		w.note(s, 0)
	}
}

func (w *waker) lost(slots []cluster.Slot) {
	w.mu.Lock()
	for _, s := range slots {
		delete(w.next, s)
	}
	w.mu.Unlock()
}

func (w *waker) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		w.lookAtClock()
		slot, wait := w.due()
		if wait == 0 {
			w.look(slot)
			if w.e.ctx.Err() != nil {
				return
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-w.e.ctx.Done():
			return
		case <-timer.C:
		case <-w.wake:
		}
	}
}

// lookAtClock has what waits for an elapsed time look at the clock, if that was set.
func (w *waker) lookAtClock() {
	set := w.e.stepped()
	d := set - w.stepped
	if d == 0 {
		return
	}
	w.stepped = set
	w.e.automation.ClockSet()
	if d > 0 {
		return // what is due too early sees that when it is woken
	}
	now := w.e.stamp()
	for rec, err := range w.e.store.Scan(tableWakes, "", "") {
		if err != nil {
			w.e.log.Error("read wake records", "err", err)
			return
		}
		at, id, ok := parseWake(rec.Key)
		// What a schedule did at times that come again it does not do again, unless it is due often: then it is due soon after the old time.
		if !ok || at <= now || !automation.IsAddress(id) || !automation.Waits(id) && at > now-2*d {
			continue
		}
		w.e.automation.Wake(id, at)
		w.pace()
		if w.e.ctx.Err() != nil {
			return
		}
	}
}

// due gives a slot that is due, or how long to wait.
func (w *waker) due() (cluster.Slot, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.e.stamp()
	for len(w.queue) > 0 {
		first := w.queue[0]
		if w.next[first.slot] != first.due {
			if _, ok := w.next[first.slot]; !ok || w.next[first.slot] != first.due {
				heap.Pop(&w.queue)
				continue
			}
		}
		if first.due > now {
			// The clock may be set: look again at least every second.
			return 0, min(time.Duration(first.due-now)*time.Millisecond, time.Second)
		}
		heap.Pop(&w.queue)
		delete(w.next, first.slot)
		return first.slot, 0
	}
	return 0, time.Second
}

// look activates the twins of a slot whose records are due, and notes when the next one is.
func (w *waker) look(slot cluster.Slot) {
	w.mu.Lock()
	news := w.news
	w.mu.Unlock()
	if news == w.gapNews && w.gap.has(slot) {
		return
	}
	now, empty := w.e.stamp(), true
	var due []string
	var when []int64
	defer func() {
		for i, id := range due {
			if automation.IsAddress(id) {
				w.e.automation.Wake(id, when[i])
			} else {
				w.e.activate(id, &woken{when[i]})
			}
			w.pace()
		}
	}()
	for rec, err := range w.e.store.Scan(tableWakes, slotKey(slot), "") {
		if err != nil {
			w.e.log.Error("read wake records", "slot", slot, "err", err)
			w.note(slot, now+1000)
			return
		}
		empty = false
		at, id, ok := parseWake(rec.Key)
		if !ok {
			continue
		}
		if at > now {
			w.note(slot, at)
			return
		}
		due, when = append(due, id), append(when, at)
	}
	if empty {
		w.gap, w.gapNews = w.e.gapBehind(tableWakes, slot), news
	}
}

// activate brings a message to a twin, activated if need be.
func (e *Engine) activate(id string, m turn) {
	e.system.Root.Send(e.shardOf(cluster.SlotOf(id)).pid, &shardTurn{id: id, turn: m, activate: true})
}

// woken: a record of the wake table is due. Timers fire on their own at the end of the turn.
type woken struct{ due int64 }

func (m *woken) run(t *twin) {
	if t.mode != modeLive || t.st.Wake == m.due || t.save != nil && t.save.flying {
		return
	}
	// A record that the twin does not know of, left by a transaction whose outcome was unknown.
	s := t.saves()
	if !slices.Contains(s.strays, m.due) {
		s.strays = append(s.strays, m.due)
		t.soil()
	}
}
