package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// batcher packs transactions into entries. While an entry is on its way the transactions gather, so that the entries grow
// with the load. What is in flight is bounded in bytes, and the bound follows the log's speed: it shrinks while
// transactions take longer than slowCommit and grows while they are quicker than quickCommit and the bound is felt.
type batcher struct {
	s *Store

	mu          sync.Mutex
	proposer    Proposer // nil: not started
	node        string
	incarnation uint64
	closed      bool

	queue  []*waiting
	queued int // bytes of queue
	bytes  int // bytes of queue and of the entries in flight
	limit  int
	// pressed: the bound refused somebody since it last changed.
	pressed bool
	// now is the time when the queue last began or an entry left: close enough for a start.
	now  time.Time
	room chan struct{} // closed when bytes shrink; nil: nobody waits

	sequence uint64 // of the next entry
	flying   map[uint64]*proposal
	resting  int // of flying, those that wait to be tried again

	kick chan struct{}
	stop chan struct{}
	wg   sync.WaitGroup
	pack *packer
}

// waiting is one submitted transaction.
type waiting struct {
	buf   []byte // guards and writes, then samples
	split int    // where the samples begin
	// journal: there are journal entries behind the samples.
	journal bool
	done    func(Result)
	start   time.Time
}

const (
	slowCommit  = 200 * time.Millisecond
	quickCommit = 100 * time.Millisecond
	// minLimit is the least that the bound in flight shrinks to, in bytes: one full entry.
	minLimit = maxEntry
	// secondAbove is what must have gathered, in bytes, for an entry to leave while one other is in flight: about a dozen small
	// transactions. So the next entry is there when the log takes the next, and waits for no answer to go to and fro.
	secondAbove = 2 << 10
	// pipelineAbove is the same while more are.
	pipelineAbove = 24 << 10
	// keepBuffer is the largest buffer that is kept for another transaction, in bytes.
	keepBuffer = 16 << 10
)

var waitingPool = sync.Pool{New: func() any { return new(waiting) }}

var (
	errNotStarted = fmt.Errorf("store not started: %w", ErrBusy)
	errNoRoom     = fmt.Errorf("%w", ErrBusy)
)

func newBatcher(s *Store) *batcher {
	return &batcher{
		s: s, limit: s.o.MaxInFlightBytes, sequence: 1, flying: map[uint64]*proposal{}, pack: &packer{},
		kick: make(chan struct{}, 1), stop: make(chan struct{}),
	}
}

type batcherStats struct{ bytes, limit, proposals int }

func (b *batcher) stats() batcherStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return batcherStats{bytes: b.bytes, limit: b.limit, proposals: len(b.flying)}
}

func (b *batcher) start(p Proposer, node string, incarnation uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return ErrClosed
	case b.proposer != nil:
		return errors.New("start store: started already")
	}
	b.proposer, b.node, b.incarnation = p, node, incarnation
	b.wg.Add(1)
	go b.run()
	return nil
}

// submit takes a transaction; see Store.Submit.
// patient callers wait when they are refused; a part of the bound is theirs alone, so that those who do not wait cannot
// keep them out.
func (b *batcher) submit(t *Txn, patient bool, done func(Result)) error {
	w := waitingPool.Get().(*waiting)
	if err := w.encode(t); err != nil {
		w.free()
		return err
	}
	w.done = done
	size := len(w.buf)
	b.mu.Lock()
	err, leaves := b.admit(size, patient), false
	if err == nil {
		if len(b.queue) == 0 {
			b.now = time.Now()
		}
		w.start = b.now
		b.queue = append(b.queue, w)
		b.queued += size
		b.bytes += size
		leaves = b.mayLeave()
	}
	b.mu.Unlock()
	if err != nil {
		w.free()
		return err
	}
	if !leaves { // an entry that is settled wakes run
		return nil
	}
	select {
	case b.kick <- struct{}{}:
	default:
	}
	return nil
}

func (b *batcher) admit(size int, patient bool) error {
	bound := b.limit
	if !patient {
		bound -= bound / 8
	}
	switch {
	case b.closed:
		return ErrClosed
	case b.proposer == nil:
		return errNotStarted
	case b.bytes > 0 && b.bytes+size > bound:
		b.pressed = true
		b.s.m.busy.Inc()
		return errNoRoom
	}
	return b.s.fatal.err()
}

func (w *waiting) encode(t *Txn) error {
	var err error
	if w.buf, err = appendTxn(w.buf[:0], t); err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	w.split = len(w.buf)
	if w.journal = len(t.Journal) > 0; w.journal || len(t.Samples) > 0 {
		w.buf = appendSamples(w.buf, t.Samples)
	}
	if w.journal {
		w.buf = appendJournal(w.buf, t.Journal)
	}
	if len(w.buf) > maxTxn {
		return fmt.Errorf("submit: a transaction of %d bytes, %d are allowed: %w", len(w.buf), maxTxn, ErrTooLarge)
	}
	return nil
}

func (w *waiting) free() {
	if cap(w.buf) > keepBuffer {
		w.buf = nil
	}
	w.done = nil
	waitingPool.Put(w)
}

// commit is submit that waits for room and for the result; see Store.Commit.
func (b *batcher) commit(ctx context.Context, t *Txn) (uint64, error) {
	got := make(chan Result, 1)
	done := func(r Result) { got <- r }
	err := b.submit(t, true, done)
	for err == errNoRoom {
		// Asked for before the next try, so that no room made meanwhile is missed.
		room := b.roomAhead()
		if err = b.submit(t, true, done); err != errNoRoom {
			break
		}
		select {
		case <-room:
		case <-ctx.Done():
			return 0, fmt.Errorf("commit: %w: %w", ErrBusy, ctx.Err())
		}
	}
	if err != nil {
		return 0, err
	}
	select {
	case r := <-got:
		return r.Revision, r.Err
	case <-ctx.Done():
		return 0, fmt.Errorf("commit: %w: %w", ErrUnknown, ctx.Err())
	}
}

// roomAhead is closed the next time that something in flight is settled.
func (b *batcher) roomAhead() chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.room == nil {
		b.room = make(chan struct{})
		if b.closed {
			close(b.room)
		}
	}
	return b.room
}

// run proposes until the store closes.
func (b *batcher) run() {
	defer b.wg.Done()
	last := 0
	for {
		select {
		case <-b.kick:
		case <-b.stop:
			return
		}
		for {
			// Callers that were just answered are about to submit again: let them, rather than send the first of them alone.
			if b.waitingCount() < last {
				runtime.Gosched()
			}
			p := b.next()
			if p == nil {
				break
			}
			last = len(p.txns)
			b.propose(p)
		}
	}
}

func (b *batcher) waitingCount() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

// next makes an entry of what waits, if one may leave now.
func (b *batcher) next() *proposal {
	b.mu.Lock()
	if len(b.queue) == 0 || b.closed || !b.mayLeave() {
		b.mu.Unlock()
		return nil
	}
	n, size := 0, 0
	budget := b.s.o.MaxEntryBytes - len(b.node) - 64
	for n < len(b.queue) {
		// Each transaction has up to three lengths and numbers around it.
		c := len(b.queue[n].buf) + 12
		if n > 0 && size+c > budget {
			break
		}
		size += c
		n++
	}
	txns := append([]*waiting(nil), b.queue[:n]...)
	rest := copy(b.queue, b.queue[n:])
	clear(b.queue[rest:])
	b.queue = b.queue[:rest]
	p := &proposal{sequence: b.sequence, txns: txns}
	for _, w := range txns {
		p.size += len(w.buf)
	}
	b.queued -= p.size
	b.sequence++
	b.flying[p.sequence] = p
	b.now = time.Now()
	b.mu.Unlock()
	b.encode(p, size)
	return p
}

// mayLeave says whether another entry may be in flight now.
func (b *batcher) mayLeave() bool {
	n := len(b.flying)
	if n == 0 {
		return true
	}
	least := pipelineAbove
	switch n - b.resting {
	case 0:
		least = 0
	case 1:
		least = secondAbove
	}
	if n >= b.s.o.MaxProposals || b.queued < least {
		return false
	}
	// The state machine remembers the last windowSize entries: one that is tried again must not be further back.
	for sequence := range b.flying {
		if b.sequence-sequence >= windowSize/2 {
			return false
		}
	}
	return true
}

// encode writes the entry. Only run's goroutine calls it.
func (b *batcher) encode(p *proposal, size int) {
	txns := 0
	chunk := []byte(nil)
	last, journal := -1, false
	for i, w := range p.txns {
		journal = journal || w.journal
		txns += uvarintLen(uint64(w.split)) + w.split
		if w.split < len(w.buf) {
			chunk = binary.AppendUvarint(chunk, uint64(i-last-1))
			chunk = appendBytes(chunk, w.buf[w.split:])
			last = i
		}
	}
	e := make([]byte, 0, size+len(b.node)+64)
	e = appendEntryHeader(e, b.node, b.incarnation, p.sequence, len(p.txns), txns)
	for _, w := range p.txns {
		e = appendBytes(e, w.buf[:w.split])
	}
	p.entry = b.pack.appendChunk(e, chunk, journal)
	p.start = time.Now()
	p.deadline = p.start.Add(b.s.o.RetryFor)
	m := b.s.m
	m.proposals.Inc()
	m.txns.Add(len(p.txns))
	m.entryBytes.Add(len(p.entry))
	m.entryTxns.Update(float64(len(p.txns)))
}

// close fails what waits with ErrClosed and what is in flight with ErrUnknown.
func (b *batcher) close() {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.closed = true
	queue, room := b.queue, b.room
	b.queue, b.room = nil, nil
	flying := make([]*proposal, 0, len(b.flying))
	for _, p := range b.flying {
		flying = append(flying, p)
	}
	b.mu.Unlock()
	close(b.stop)
	b.wg.Wait()
	if room != nil {
		close(room)
	}
	for _, p := range flying {
		b.settle(p, nil, fmt.Errorf("%w: %w", ErrUnknown, ErrClosed))
	}
	for _, w := range queue {
		w.done(Result{Err: ErrClosed})
	}
}
