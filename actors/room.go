package actors

import (
	"sync"
	"sync/atomic"
	"time"
)

// room is the line of twins whose transaction the store had no room for. While there is a line nobody else tries, so
// that the store refuses few and the order is fair. When transactions were settled some try, each of which calls the
// next one where it found room; one that found none ends that for a moment.
//
// A twin in the line holds a token, which goes with the message that calls it.
type room struct {
	waiting atomic.Int32 // the length of the line

	mu     sync.Mutex
	line   []*entry // from head on
	head   int
	trying int // how many try now
	full   time.Time
	moved  bool // since the last look of the ticker
}

const (
	// maxTrying is how many twins of the line try at a time.
	maxTrying = 4
	// fullFor is for how long after the store had no room nobody tries.
	fullFor = 5 * time.Millisecond
)

// roomy calls a twin out of the line.
type roomy struct{}

// crowded says whether twins wait.
func (r *room) crowded() bool { return r.waiting.Load() > 0 }

// join puts a twin at the end of the line, or back to its head. The caller gives a token.
func (r *room) join(en *entry, first bool) {
	r.mu.Lock()
	r.waiting.Add(1)
	if first && r.head > 0 {
		r.head--
		r.line[r.head] = en
	} else {
		r.line = append(r.line, en)
	}
	r.mu.Unlock()
}

// pop takes the first twin out; nil where nobody waits. The caller has the lock.
func (r *room) pop() *entry {
	if r.head == len(r.line) {
		return nil
	}
	r.waiting.Add(-1)
	en := r.line[r.head]
	r.line[r.head] = nil
	r.head++
	switch {
	case r.head == len(r.line):
		r.line, r.head = r.line[:0], 0
		if cap(r.line) > 1024 {
			r.line = nil
		}
	case r.head > 4096 && r.head > len(r.line)/2:
		n := copy(r.line, r.line[r.head:])
		clear(r.line[n:])
		r.line, r.head = r.line[:n], 0
	}
	return en
}

// settled: a transaction left the store, so another may come.
func (r *room) settled() {
	if !r.crowded() {
		return
	}
	r.mu.Lock()
	var en *entry
	if r.trying < maxTrying && time.Since(r.full) > fullFor {
		en = r.try()
	}
	r.mu.Unlock()
	summon(en)
}

// try takes the next twin out of the line to have it try. The caller has the lock.
func (r *room) try() *entry {
	en := r.pop()
	if en != nil {
		r.trying++
		r.moved = true
	}
	return en
}

func summon(en *entry) {
	if en != nil {
		en.send((*roomy)(nil))
	}
}

// tried: a twin found room, or none, or needed none; then the next one tries.
func (r *room) tried(full bool) {
	r.mu.Lock()
	r.trying = max(0, r.trying-1)
	var en *entry
	if full {
		r.full = time.Now()
	} else {
		en = r.try()
	}
	r.mu.Unlock()
	summon(en)
}

// look has the first in line try where nobody did for a while: the room may be taken by others, or the store has just
// started. The ticker calls it.
func (r *room) look() {
	if !r.crowded() {
		return
	}
	r.mu.Lock()
	var en *entry
	if !r.moved {
		r.trying = 0
		en = r.try()
	}
	r.moved = false
	r.mu.Unlock()
	summon(en)
}

func (*roomy) run(t *twin) {
	s := t.save
	if s == nil || !s.queued {
		t.e.room.tried(false)
		return
	}
	s.queued, s.called = false, true
	s.retryAt = 0
	switch t.mode {
	case modeLive, modeLeaving:
		t.checkpoint(t.nowMS())
	case modeDeleting:
		t.finishRemoval(t.nowMS())
	}
	s.called = false
	t.e.room.tried(s.queued)
}

// mayOffer says whether the twin may offer a transaction to the store now. Where others wait for room it waits, too.
func (t *twin) mayOffer() bool {
	if t.save != nil && t.save.called || !t.e.room.crowded() {
		return true
	}
	t.noRoom()
	return false
}

// patientTries is how often a twin for which nobody waits comes again later, before it stands in line.
const patientTries = 4

// noRoom: the twin stands in line where somebody waits for it; values that were written behind come again later.
func (t *twin) noRoom() {
	t.e.interval.busy()
	s := t.saves()
	s.crowded = true
	if !t.wanted() && s.tries < patientTries {
		t.later()
		return
	}
	if !s.queued {
		s.queued = true
		t.en.tokens.Add(1)
		t.e.room.join(t.en, s.called)
		t.e.rouse()
	}
}

// wanted says whether somebody waits for the twin's next transaction.
func (t *twin) wanted() bool {
	return t.mode != modeLive || t.save != nil && len(t.save.waiting) > 0 || t.holds()
}

// waits says whether the twin must not offer anything yet.
func (t *twin) waits(now int64) bool {
	s := t.save
	switch {
	case s == nil:
		return false
	case s.flying, s.queued:
		return true
	case s.crowded && t.wanted():
		return false
	}
	return now < s.retryAt
}
