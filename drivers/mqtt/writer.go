package mqtt

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/polluxhq/pollux/storage"
)

// writer commits what nobody waits for by itself: in order, many writes in one transaction. It is bounded by what callers
// have in hand.
type writer struct {
	b *Broker

	mu      sync.Mutex
	waiting []pendingWrite
	wake    chan struct{}
}

type pendingWrite struct {
	w     storage.Write
	guard storage.Guard // without a table: none
	done  func(error)
}

// writesAtOnce in one transaction.
const writesAtOnce = 400

func (w *writer) add(write storage.Write, done func(error)) {
	w.put(pendingWrite{w: write, done: done})
}

func (w *writer) put(p pendingWrite) {
	w.mu.Lock()
	w.waiting = append(w.waiting, p)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// flush waits until what was added before is settled, or the broker ends.
func (w *writer) flush() {
	done := make(chan struct{})
	w.add(storage.Write{}, func(error) { close(done) })
	select {
	case <-done:
	case <-w.b.writerGone:
	}
}

func (w *writer) run() {
	defer close(w.b.writerGone)
	for {
		select {
		case <-w.wake:
		case <-w.b.ctx.Done():
			w.fail()
			return
		}
		for w.step() {
		}
	}
}

func (w *writer) fail() {
	w.mu.Lock()
	batch := w.waiting
	w.waiting = nil
	w.mu.Unlock()
	for _, p := range batch {
		p.done(ErrClosed)
	}
}

// step commits one transaction. False: there is nothing.
func (w *writer) step() bool {
	w.mu.Lock()
	n, size := 0, 0
	for n < len(w.waiting) && n < writesAtOnce && (n == 0 || size+len(w.waiting[n].w.Value) < 128<<10) {
		size += len(w.waiting[n].w.Value)
		n++
	}
	batch := w.waiting[:n:n]
	if w.waiting = w.waiting[n:]; len(w.waiting) == 0 {
		w.waiting = nil
	}
	w.mu.Unlock()
	if n == 0 {
		return false
	}
	err := w.commit(txnOf(batch))
	for i, p := range batch {
		if errors.Is(err, storage.ErrGuard) { // of one of them: each by itself
			p.done(w.commit(txnOf(batch[i : i+1])))
		} else {
			p.done(err)
		}
	}
	return true
}

// txnOf is one transaction of some writes, with the guards that any of them has.
func txnOf(batch []pendingWrite) *storage.Txn {
	txn := &storage.Txn{}
	for _, p := range batch {
		if p.w.Table != "" {
			txn.Writes = append(txn.Writes, p.w)
		}
		if p.guard.Table != "" {
			txn.Guards = append(txn.Guards, p.guard)
		}
	}
	return txn
}

// commit tries until it is done: every write is one that may be made twice.
func (w *writer) commit(txn *storage.Txn) error {
	for len(txn.Writes) > 0 {
		ctx, cancel := w.b.background()
		_, err := w.b.store.Commit(ctx, txn)
		cancel()
		if err == nil || w.b.ctx.Err() != nil || errors.Is(err, storage.ErrGuard) || errors.Is(err, storage.ErrTooLarge) || errors.Is(err, storage.ErrClosed) {
			return err
		}
		w.b.quiet.log(w.b.log, slog.LevelWarn, "mqtt records not written yet", "error", err)
		select {
		case <-time.After(50 * time.Millisecond):
		case <-w.b.ctx.Done():
		}
	}
	return nil
}
