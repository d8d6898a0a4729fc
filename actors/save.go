package actors

import (
	"errors"
	"fmt"
	"sync"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// save is what a twin has under way to the store: one transaction at a time, so that their order is the twin's.
type save struct {
	en *entry
	// result is that of the transaction that flew last; settled brings it to the twin.
	result  saved
	settled func(storage.Result)
	// samples and waiting belong to the next transaction; the others to the one that flies.
	samples []storage.Sample
	waiting []saveWaiter
	// sampleBytes is the size of samples; see maxSamples.
	sampleBytes int
	// journal and journalSent are for the journal as samples and sent are for history.
	journal, journalSent []storage.JournalEntry
	journalBytes         int
	flying               bool
	sent                 []storage.Sample
	told                 []saveWaiter
	// wake is what the wake record was before the flying transaction.
	wake  int64
	patch bool
	exact bool
	// marks are the index records that fly.
	marks map[mark]bool
	count uint8 // what the twin contributed when it was sent
	// retryAt is when a transaction that the store had no room for is offered again, by nowMS.
	retryAt int64
	tries   uint8
	// queued: the twin stands in the line for room; called: it is its turn there; crowded: it found no room the last time.
	queued, called, crowded bool
	// outgoing are messages for topics that the next transaction commits, leaving those of the one that flies; posted is the
	// number of the last.
	outgoing, leaving []outgoing
	// scans is outbox.scans as the transaction was submitted; unsure: what is outgoing may be committed.
	scans         uint64
	unsure        bool
	outgoingBytes int
	posted        uint64
	// strays are due times of wake records that should not be.
	strays []int64
	// refusals are lines of the list of refusals that are to be written; the first of them are offered.
	refusals []storage.Write
	offered  int
	// removed: the twin is deleted, and its state is gone.
	removed bool
	// held are frames for which the next transaction has no room, in their order; leftOut is what of the message in hand found none.
	held      []heldFrame
	heldBytes int
	leftOut   int
}

// saveWaiter waits for a transaction: a call with its answer, or a function.
type saveWaiter struct {
	call  *call
	reply cluster.Reply
	done  func(error)
}

// tell says that all is committed, or why it will never be.
func (w *saveWaiter) tell(err error) {
	switch {
	case w.call == nil:
		w.done(err)
	case err != nil:
		w.call.refuse(err)
	default:
		w.call.answer(w.reply)
	}
}

// saved is the result of a transaction.
type saved struct {
	err      error
	revision uint64
}

// idleSaves are used again: a twin has one while it has something to save.
var idleSaves = sync.Pool{New: func() any {
	s := &save{}
	s.settled = s.settle
	return s
}}

func (t *twin) saves() *save {
	if t.save == nil {
		t.save = idleSaves.Get().(*save)
		t.save.en = t.en
	}
	return t.save
}

// free gives a save back that is idle.
func (s *save) free() {
	*s = save{settled: s.settled, samples: s.samples[:0], waiting: s.waiting[:0]}
	idleSaves.Put(s)
}

// reuse keeps the places of what was saved for what comes next.
func (s *save) reuse(sent []storage.Sample, told []saveWaiter) {
	const few = 32
	if s.samples == nil && cap(sent) <= few {
		s.samples = sent[:0]
	}
	if s.waiting == nil && cap(told) <= few {
		clear(told)
		s.waiting = told[:0]
	}
}

// settle brings the result of a transaction to the twin.
func (s *save) settle(r storage.Result) {
	s.result = saved{r.Err, r.Revision}
	sh := s.en.shard
	sh.e.room.settled()
	sh.post(letter{en: s.en, turn: &s.result})
}

// idle: nothing is under way, waits, or is to be offered again.
func (s *save) idle() bool {
	return !s.flying && !s.queued && s.retryAt == 0 && len(s.samples) == 0 && len(s.journal) == 0 && len(s.waiting) == 0 && len(s.outgoing) == 0 &&
		len(s.held) == 0 && len(s.refusals) == 0 && len(s.strays) == 0
}

// saving says whether a transaction is under way or asked for.
func (t *twin) saving() bool { return t.save != nil && (t.save.flying || len(t.save.waiting) > 0) }

// whenSaved has done called when all that the twin knows now is committed, or with the reason why it never will be.
func (t *twin) whenSaved(done func(error)) {
	s := t.saves()
	s.waiting = append(s.waiting, saveWaiter{done: done})
}

// fail answers those who wait for the transaction that flies with ran, and the others with not.
func (s *save) fail(ran, not error) {
	told, waiting := s.told, s.waiting
	s.told, s.waiting, s.sent, s.journalSent = nil, nil, nil, nil
	s.unload()
	for i := range told {
		told[i].tell(ran)
	}
	for i := range waiting {
		waiting[i].tell(not)
	}
}

func (t *twin) retryAt() int64 {
	if t.save == nil {
		return 0
	}
	return t.save.retryAt
}

// nextCheckpoint is when the twin has to be checkpointed, by nowMS; 0: not because of time.
func (t *twin) nextCheckpoint(now int64) int64 {
	if t.save != nil {
		if t.save.flying || t.save.queued {
			return 0
		}
		if t.save.retryAt > 0 && t.wanted() {
			return t.save.retryAt
		}
	}
	if !t.dirty {
		return 0
	}
	// The interval may shrink while the twin waits, so it looks again after a part of it.
	behind := t.behind()
	return max(min(t.dirtyAt+behind, now+max(t.e.interval.low, behind/4)), t.retryAt())
}

// checkpoint commits what the twin knows, where somebody waits for it, where it has waited for long enough, or where
// the twin is about to leave memory.
func (t *twin) checkpoint(now int64) {
	if t.waits(now) {
		return
	}
	exact := false
	switch {
	case t.save != nil && len(t.save.waiting) > 0, t.holds(), t.laden():
	case t.dirty && now >= t.dirtyAt+t.behind():
	case t.mode == modeLeaving && t.work.empty() || t.mode == modeLive && t.passive(now):
		if t.wakeWrong(true) {
			t.wakeExact = true
		}
		if !t.dirty && !t.touched && !t.wakeExact {
			return
		}
		exact = true
	case t.mode == modeLeaving && t.wakeExact && t.work.empty():
		exact = true
	default:
		return
	}
	if t.mayOffer() {
		t.commit(exact)
	}
}

// checkpointTxn is what a checkpoint is put together in. The store encodes a transaction before Submit returns, so the next one can be
// put together in the same place.
type checkpointTxn struct {
	txn   storage.Txn
	state []byte
}

var checkpoints = sync.Pool{New: func() any { return &checkpointTxn{} }}

// maxKeptState in bytes is what a place may hold while it waits for the next checkpoint.
const maxKeptState = 16 << 10

func (x *checkpointTxn) free() {
	clear(x.txn.Guards)
	clear(x.txn.Writes)
	clear(x.txn.Samples)
	x.txn.Guards, x.txn.Writes, x.txn.Samples, x.txn.Journal = x.txn.Guards[:0], x.txn.Writes[:0], x.txn.Samples[:0], nil
	if x.state = x.state[:0]; cap(x.state) > maxKeptState {
		x.state = nil
	}
	checkpoints.Put(x)
}

// commit sends the state to the store.
func (t *twin) commit(exact bool) {
	s := t.saves()
	if t.mode == modeLeaving {
		t.packCalls()
	}
	oldWake := t.st.Wake
	x := checkpoints.Get().(*checkpointTxn)
	defer x.free()
	txn := &x.txn
	txn.Guards = append(txn.Guards, storage.Guard{Table: storage.Table(t.own.Table), Key: t.own.Key, Equal: t.own.Value})
	txn.Writes = append(txn.Writes, storage.Write{})
	if t.wakeWrong(exact) {
		t.st.Wake = t.wake(exact)
		if oldWake != 0 {
			txn.Writes = append(txn.Writes, storage.Write{Table: tableWakes, Key: wakeKey(t.en.slot, t.en.id, oldWake), Quiet: true})
		}
		if t.st.Wake != 0 {
			txn.Writes = append(txn.Writes, storage.Write{Table: tableWakes, Key: wakeKey(t.en.slot, t.en.id, t.st.Wake), Value: []byte{1}, Quiet: true})
		}
	}
	for _, due := range s.strays {
		txn.Writes = append(txn.Writes, storage.Write{Table: tableWakes, Key: wakeKey(t.en.slot, t.en.id, due), Quiet: true})
	}
	if t.patchDirty {
		txn.Writes = append(txn.Writes, storage.Write{Table: tableModels, Key: t.en.id, Value: t.patch, Quiet: true})
	}
	txn.Writes = t.trainingWrites(s.outgoingWrites(s.refusalWrites(t.markWrites(txn.Writes))))
	x.state = t.st.Append(x.state)
	txn.Writes[0] = storage.Write{Table: tableStates, Key: t.en.id, Value: x.state, Quiet: true}
	t.carry(txn)
	if !t.submit(txn) {
		t.st.Wake = oldWake
		t.trainingSaved(false)
		return
	}
	if t.spec != nil {
		t.spend(t.spec, drivers.QuotaState, len(txn.Writes[0].Value), t.e.now().UnixNano())
		if t.lavish() {
			t.overused(t.spec, drivers.QuotaState, 1)
		}
	}
	s.strays = nil
	s.carried()
	s.told, s.waiting = s.waiting, nil
	s.wake, s.patch, s.exact, s.count = oldWake, t.patchDirty, exact, t.counted
	s.marks, t.marks = t.marks, nil
	t.dirty, t.touched, t.patchDirty = false, false, false
	t.trainingSent()
	if exact {
		t.wakeExact = false
	}
}

// carry adds what goes to history and journal to a transaction, which has the messages for topics.
func (t *twin) carry(txn *storage.Txn) {
	s := t.saves()
	if len(s.samples) > 0 {
		title := ""
		if t.spec != nil {
			title = t.modelName()
		}
		txn.Samples = append(txn.Samples, storage.TwinSamples{Project: ProjectOf(t.en.id), Twin: NameOf(t.en.id), Model: title, Samples: s.samples})
	}
	txn.Journal = s.journal
	s.scans = t.e.outbox.scans.Load()
}

// carried notes that the transaction is on its way.
func (s *save) carried() {
	s.sent, s.samples, s.sampleBytes = s.samples, nil, 0
	s.journalSent, s.journal, s.journalBytes = s.journal, nil, 0
	s.leaving, s.outgoing, s.outgoingBytes = s.outgoing, nil, 0
}

// modelName is the label of the twin's samples.
func (t *twin) modelName() string {
	if t.spec.title != "" {
		return t.spec.title
	}
	return t.spec.name
}

// submit offers a transaction to the store. Where there is no room now it is offered again later.
func (t *twin) submit(txn *storage.Txn) bool {
	s := t.saves()
	en := t.en
	en.tokens.Add(1)
	err := t.e.store.Submit(txn, s.settled)
	if err == nil {
		s.flying, s.crowded, s.tries, s.retryAt = true, false, 0, 0
		t.e.stats.checkpoints.Add(1)
		return true
	}
	en.tokens.Add(-1)
	if !errors.Is(err, storage.ErrBusy) {
		t.unsaved(err)
		return false
	}
	t.e.stats.drop(dropBusy)
	t.noRoom()
	return false
}

// later has the transaction tried again, after a wait that doubles from 10 to 640 ms.
func (t *twin) later() {
	s := t.saves()
	s.retryAt = t.nowMS() + 10<<min(s.tries, 6)
	s.tries++
}

// unsaved: the store does not take the transaction, now or ever.
func (t *twin) unsaved(err error) {
	err = fmt.Errorf("twin %s: checkpoint: %w", t.en.id, err)
	if errors.Is(err, storage.ErrClosed) {
		t.die(err, err)
		return
	}
	t.e.log.Error("checkpoint refused", "twin", t.en.id, "err", err)
	t.e.stats.drop(dropCheckpoint)
	s := t.saves()
	t.e.stats.dropped[dropSamples].Add(uint64(len(s.samples)))
	t.e.stats.dropped[dropJournal].Add(uint64(len(s.journal)))
	if !errors.Is(err, storage.ErrTooLarge) || !t.shed() {
		s.fail(err, err)
	}
	t.later()
}

func (m *saved) run(t *twin) {
	s := t.save
	if s == nil || !s.flying {
		return
	}
	s.flying = false
	switch {
	case m.err == nil:
		// Also of a life that is over: where the twin's next one is in the same tenure, the records may have come after those of its slot were read.
		t.e.outbox.add(s.leaving, s.scans)
		s.leaving, s.unsure = nil, false
	case t.mode == modeDead && len(s.leaving) > 0 && errors.Is(m.err, storage.ErrUnknown):
		t.e.outbox.gained(func() {}) // or may have: they are read again
	}
	if t.mode == modeDead {
		return
	}
	t.trainingSaved(m.err == nil)
	switch {
	case m.err == nil:
		s.tries, s.retryAt = 0, 0
		t.recorded = s.count
		if t.st.Wake != s.wake && t.st.Wake > t.stamp() { // what is due is done already, or this node will not do it
			t.e.waker.note(t.en.slot, t.st.Wake)
		}
		told, sent, marks := s.told, s.sent, s.marks
		s.told, s.sent, s.journalSent, s.marks = nil, nil, nil, nil
		if s.refusals = s.refusals[s.offered:]; len(s.refusals) > 0 {
			t.soil()
		}
		s.offered = 0
		t.e.marked(marks)
		if t.mode == modeDeleting && s.removed {
			t.gone()
		}
		for i := range told {
			told[i].tell(nil)
		}
		s.reuse(sent, told)
		return
	case errors.Is(m.err, storage.ErrGuard):
		// The slot is somebody else's: nothing of this had an effect, and nothing more will.
		t.e.stats.drop(dropGuard)
		t.e.log.Warn("twin has another owner", "twin", t.en.id, "err", m.err)
		s.fail(t.elsewhere(), t.elsewhere())
		t.die(fmt.Errorf("twin %s: checkpoint: %w: %w", t.en.id, cluster.ErrUnknown, m.err), t.elsewhere())
		return
	}
	// It did not apply, or may have: the whole state is written again, which is the same thing twice.
	for _, x := range s.sent {
		s.sampleBytes += sampleSize(x)
	}
	s.samples = append(s.sent, s.samples...)
	for i := range s.journalSent {
		s.journalBytes += journalSize(&s.journalSent[i])
	}
	s.journal = append(s.journalSent, s.journal...)
	s.unsure = s.unsure || len(s.leaving) > 0 && errors.Is(m.err, storage.ErrUnknown)
	s.unsend()
	s.waiting = append(s.told, s.waiting...)
	t.remark(s.marks)
	s.sent, s.journalSent, s.told, s.marks = nil, nil, nil, nil
	s.removed, s.crowded = false, false
	t.st.Wake = s.wake // a record too many is found when it is due
	t.patchDirty = t.patchDirty || s.patch
	t.wakeExact = t.wakeExact || s.exact
	t.soil()
	if errors.Is(m.err, storage.ErrTooLarge) || errors.Is(m.err, storage.ErrClosed) {
		t.unsaved(m.err)
		return
	}
	t.later()
}

// commitRemoval removes the twin's state, timers and tombstone, with what it was told and nobody waits for.
func (t *twin) commitRemoval() {
	if !t.mayOffer() {
		return
	}
	tomb := slotIDKey(t.en.slot, t.en.id)
	rec, there, err := t.e.store.Get(tableGone, tomb)
	if err == nil && !there {
		// A try whose outcome was not known did it, and there may be another twin of that id by now.
		s := t.saves()
		if s.removed = true; s.unsure {
			t.e.outbox.gained(func() {}) // what it told topics is committed, too
		}
		t.gone()
		return
	}
	del := func(table storage.Table, key string) storage.Write {
		return storage.Write{Table: table, Key: key, Quiet: table != tableGone}
	}
	txn := &storage.Txn{
		Guards: []storage.Guard{{Table: storage.Table(t.own.Table), Key: t.own.Key, Equal: t.own.Value},
			{Table: tableGone, Key: tomb, Revision: rec.Revision}},
		Writes: []storage.Write{del(tableStates, t.en.id), del(tableModels, t.en.id), del(tableGone, tomb), del(tablePlace, t.en.id)},
	}
	if t.st.Wake != 0 {
		txn.Writes = append(txn.Writes, del(tableWakes, wakeKey(t.en.slot, t.en.id, t.st.Wake)))
	}
	txn.Writes = t.saves().refusalWrites(t.cellsGone(t.trainingGone(append(txn.Writes, t.inheritance()...))))
	if t.en.slot.Class() != 0 {
		txn.Writes = append(txn.Writes, storage.Write{Table: tableShift, Key: cluster.ShiftKey(t.en.slot, t.en.id)})
	}
	txn.Writes = t.saves().outgoingWrites(t.unmarkWrites(txn.Writes))
	t.carry(txn)
	if t.submit(txn) {
		t.save.carried()
		t.save.removed = true
		t.dirty, t.touched, t.wakeExact = false, false, false
	}
}

// gone is the end of a deleted twin.
func (t *twin) gone() {
	t.e.hub.deleted(t)
	t.contribute(0)
	t.st.Connection = uint8(pb.Connection_CONNECTION_UNSPECIFIED)
	t.release()
}
