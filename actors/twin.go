package actors

import (
	"fmt"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// mode of a twin.
type mode uint8

const (
	_ mode = iota // not activated yet
	// modeLive: it has its configuration and state.
	modeLive
	// modeAbsent: there is no twin of that id; it says so and goes.
	modeAbsent
	// modeDeleting: its configuration is gone; the driver is unloaded and the state removed.
	modeDeleting
	// modeLeaving: its slot is released; it finishes, checkpoints and goes.
	modeLeaving
	// modeDead: its slot is somebody else's, or it crashed; it has no effect any more, and goes.
	modeDead
)

// twin is the actor of one device. Fields belong to its turns; what is rarely there hangs off pointers, because there
// are many twins.
type twin struct {
	e    *Engine
	en   *entry
	own  *cluster.Ownership
	st   state.Record
	cfg  *config
	spec *spec
	run  *runner
	// model is the driver's, or as patched by describe.
	model *drivers.Model
	patch []byte

	mode  mode
	ready bool // the runner is loaded
	// loaded: the driver has had its load event in this life.
	loaded bool
	// counted is what this twin contributes to the counts of connected and faulty twins, recorded what it would by its
	// record.
	counted, recorded uint8
	dirty             bool
	// touched: something changed that is worth a checkpoint only before the twin leaves memory.
	touched    bool
	patchDirty bool
	wakeExact  bool // the wake record must be right at the next checkpoint, not only early enough
	failures   uint8
	late       uint8 // frames in a row that were not handled in time
	hurried    bool  // it leaves, and what ran was cancelled
	lent       bool  // a call reads st.Properties: they are copied before they change
	// regains: the device was connected, or about to be, when the last life ended, and this one has made no connection yet.
	regains bool
	work    *work
	save    *save
	link    *link
	// moved counts what went by the node's broker, byHook what went by webhook; nil: nothing yet.
	moved    *moved
	byHook   *moved
	logs     *logRing
	watched  *watched // nil: by nobody
	audience *audience
	// routing is what it knows of the routes that may match it; nil: nothing yet.
	routing *routing
	// marks are the index records that the next transaction writes (true) or removes.
	marks map[mark]bool
	// meter measures what the driver uses of its quotas, trapped how often it fails; over is what it was refused.
	meter, trapped *meter
	over           *overuse
	// sieve is what the filters of its model remember; nil: nothing.
	sieve *sieve
	// deriving is what it computes; nil: nothing.
	deriving *deriving
	// detecting is what judges its readings; nil: nothing.
	detecting *detecting
	// dirtyAt is since when written-behind values wait.
	dirtyAt int64
	// backoff is until when the driver is left alone after a fault.
	backoff   int64
	faultFrom drivers.Event
	// tick and wall are the time of the turn, as nowMS and stamp of the engine.
	tick, wall int64
}

type (
	activate struct{ en *entry }
	// tock: something that the twin asked the wheel for is due.
	tock struct{}
	// nudge only activates.
	nudge struct{}
	// leave: the slot is released or lost.
	leave struct{ lost bool }
	// hurry: a twin that leaves has waited long enough for what runs.
	hurry struct{}
)

// Receive is the actor's turn.
func (t *twin) Receive(c actor.Context) {
	m, ok := c.Message().(turn)
	if !ok {
		if _, stopped := c.Message().(*actor.Stopped); stopped && t.e != nil {
			t.e.stats.active.Add(-1)
			t.release()
		}
		return
	}
	if a, first := m.(*activate); first {
		t.en, t.e = a.en, a.en.shard.e
		t.en.twin = t
	}
	en := t.en
	en.mu.Lock()
	t.tick, t.wall = t.e.both()
	t.act(m)
	t.afterwards()
	stop := t.wantsStop()
	en.mailed.Add(-1)
	en.mu.Unlock()
	en.tokens.Add(-1)
	if stop {
		en.stop()
	}
}

// act runs one message. A panic ends the twin's life without effect; the next message gives it a new one, from what
// was committed. Whatever the turn had in hand, everybody who waits gets an answer.
func (t *twin) act(m turn) {
	defer t.survive()
	m.run(t)
}

// afterwards is the end of a turn, of one message or several. It survives a panic as act does.
func (t *twin) afterwards() {
	t.stepping()
	t.measure()
}

func (t *twin) stepping() {
	defer t.survive()
	t.step()
	t.speak()
}

func (t *twin) survive() {
	if r := recover(); r != nil {
		t.fall(r)
	}
}

// measure tells the shard how much waits here.
func (t *twin) measure() {
	var load, bytes int
	if t.work != nil {
		load, bytes = len(t.work.events), t.work.bytes
	}
	if t.save != nil {
		load += len(t.save.waiting) + len(t.save.told) + len(t.save.held)
		bytes += t.save.heldBytes
	}
	t.en.load.Store(int32(load))
	t.en.bytes.Store(int32(bytes))
}

// wantsStop says whether nothing keeps the twin in memory.
func (t *twin) wantsStop() bool {
	switch t.mode {
	case modeAbsent, modeDead:
		return t.link == nil
	case modeDeleting:
		return t.save != nil && t.save.removed && t.link == nil
	case modeLeaving:
		return t.settled()
	case modeLive:
		return t.passive(t.nowMS()) && t.settled()
	}
	return false
}

// settled says whether nothing is under way and everything is committed.
func (t *twin) settled() bool {
	return t.link == nil && !t.dirty && !t.touched && !t.wakeExact && t.work.empty() && (t.save == nil || t.save.idle())
}

// passive says whether nobody has wanted the twin for long enough.
func (t *twin) passive(now int64) bool {
	idle := t.e.o.IdleTimeout.Milliseconds()
	if _, owes := t.audience.owes(); owes || t.deriving.busy() || t.link != nil || !t.work.empty() || now-t.en.used.Load() < idle {
		return false
	}
	next := t.nextTimer()
	return next == 0 || next-t.stamp() >= idle
}

func (a *activate) run(t *twin) {
	t.e.stats.active.Add(1)
	t.own = t.e.owned[t.en.slot].Load()
	if t.own == nil {
		t.mode = modeDead
		return
	}
	rec, err := t.e.readTwin(t.en.id)
	var cfg *config
	if err == nil && rec != nil {
		cfg, err = t.e.configOf(rec)
	}
	if err != nil {
		t.e.log.Error("twin not activated", "twin", t.en.id, "err", err)
		t.mode = modeDead
		return
	}
	if !t.e.livesIn(t.en.id, t.en.slot) {
		t.mode = modeDead // its place is read after its record: whoever has both from before may not act
		return
	}
	if cfg == nil {
		t.absent()
		return
	}
	if err := t.restore(); err != nil {
		t.e.log.Error("twin not activated", "twin", t.en.id, "err", err)
		t.mode = modeDead
		return
	}
	t.mode = modeLive
	t.cfg = cfg
	if t.e.routes.count.Load()+t.e.rules.Count.Load() > 0 {
		t.lookOut(rec) // by this record: the twin may be deleted before it says something
	}
	was := pb.Connection(t.st.Connection)
	t.regains = was == pb.Connection_CONNECTION_CONNECTED || was == pb.Connection_CONNECTION_CONNECTING
	if t.st.ConnectedSince == t.own.Since {
		t.counted = t.contribution() // by an earlier life under the same ownership
		t.recorded = t.counted
	}
	t.connection(t.st.Shown(t.own.Since))
	if t.st.Fault != "" && t.st.ConnectedSince != t.own.Since {
		t.st.ConnectedSince = t.own.Since
		t.touched = true
	}
	t.count()
	t.resume()
	t.adopt()
	t.e.hub.activated(t)
	t.follow()
	t.rederive()
	t.detectors()
}

// absent: there is no configuration. What a deleted twin left behind is removed.
func (t *twin) absent() {
	_, gone, err := t.e.store.Get(tableGone, slotIDKey(t.en.slot, t.en.id))
	if err != nil || !gone {
		t.mode = modeAbsent
		return
	}
	if err := t.restore(); err != nil {
		t.e.log.Error("state of a deleted twin", "twin", t.en.id, "err", err)
	}
	t.remove()
}

// restore reads the state as committed.
func (t *twin) restore() error {
	rec, ok, err := t.e.store.Get(tableStates, t.en.id)
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if !ok {
		return nil
	}
	st, err := state.Decode(rec.Value)
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	t.st = *st
	rec, ok, err = t.e.store.Get(tableModels, t.en.id)
	if err != nil {
		return fmt.Errorf("read model: %w", err)
	}
	if ok {
		t.patch = rec.Value
	}
	return nil
}

func (*tock) run(*twin)  {}
func (*nudge) run(*twin) {}

// step is the end of each turn: it does what has become possible, and asks the wheel to come back for the rest.
func (t *twin) step() {
	now := t.nowMS()
	switch t.mode {
	case modeLive:
		t.retry(now)
		t.fireTimers(now)
		t.goStale()
		t.payDebts(now)
		t.elapse()
		t.regain(now)
		t.derive(now)
		t.expire(now)
		t.start(now)
		t.announce(now)
		t.checkpoint(now)
		t.board()
		t.emitQueue()
	case modeLeaving:
		t.finish()
		t.payDebts(now)
		t.checkpoint(now)
		t.board()
	case modeDeleting:
		t.finish()
		t.finishRemoval(now)
	default:
		return
	}
	t.tidy()
	if at := t.next(now); at > 0 {
		t.en.shard.wheel.Set(&t.en.Node, at)
		t.e.rouse()
	}
}

// tidy frees what is empty.
func (t *twin) tidy() {
	if t.work != nil && t.work.empty() && (len(t.work.recent) == 0 || t.nowMS()-t.en.used.Load() > recentWindow) &&
		t.work.pausedUntil <= t.nowMS() {
		t.work = nil
	}
	if s := t.save; s != nil && s.idle() && !s.removed {
		t.save = nil
		s.free()
	}
}

// next is when the twin wants to be called again, by nowMS.
func (t *twin) next(now int64) int64 {
	at := t.en.used.Load() + t.e.o.IdleTimeout.Milliseconds()
	if t.work != nil && len(t.work.recent) > 0 && t.work.empty() {
		at = min(at, max(now, t.en.used.Load())+recentWindow+tick)
	}
	if at <= now {
		at = now + t.e.o.IdleTimeout.Milliseconds()
	}
	earlier := func(x int64) {
		if x > 0 && x < at {
			at = x
		}
	}
	for _, due := range [...]int64{t.nextTimer(), t.nextDebt()} {
		if due > 0 {
			earlier(now + max(due-t.stamp(), 1))
		}
	}
	if t.backoff > now {
		earlier(t.backoff)
	}
	if l := t.link; l != nil && l.regain > now {
		earlier(l.regain)
	}
	if t.work != nil {
		earlier(t.work.next(t, now))
	}
	if at, owes := t.audience.owes(); owes {
		earlier(at)
	}
	earlier(t.deriving.next(now))
	earlier(t.nextCheckpoint(now))
	return at
}

// release gives back what the twin shares with others.
func (t *twin) release() {
	if t.run != nil {
		t.e.runners.release(t.run)
		t.run, t.ready = nil, false
	}
	t.e.hub.passivated(t)
}

// connection notes the state of the connection; what is shown of all values may change with it.
func (t *twin) connection(c pb.Connection) {
	if pb.Connection(t.st.Connection) == c && (c != pb.Connection_CONNECTION_CONNECTED || t.st.ConnectedSince == t.own.Since) {
		return
	}
	live := t.live()
	t.st.Connection = uint8(c)
	t.st.ConnectedSince = t.own.Since
	t.changed()
	t.count()
	if live != t.live() {
		t.requalified()
	}
}

// live says whether the device can be reached, as far as is known.
func (t *twin) live() bool { return state.Live(pb.Connection(t.st.Connection)) }

// fault sets or clears what is wrong.
func (t *twin) fault(text string, from drivers.Event) {
	text = clip(t.cfg.veil(text), 500)
	if t.st.Fault == text {
		if text != "" && t.failures > 0 {
			t.emitStatus() // the same again: how often, and until when, is news
		}
		return
	}
	t.st.Fault, t.faultFrom = text, from
	t.changed()
	t.count()
	t.emitStatus()
}

// changed counts a change of the state and has it checkpointed within the interval.
func (t *twin) changed() {
	t.st.Revision++
	t.soil()
}

func (t *twin) soil() {
	if !t.dirty {
		t.dirty = true
		t.dirtyAt = t.nowMS()
	}
}
