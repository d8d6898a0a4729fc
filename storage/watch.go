package storage

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// hub wakes watchers. A watcher reads the change log from the state's database at its own pace, so that a slow one costs
// nothing but its place: when what it has not read yet is trimmed, it ends.
type hub struct {
	mu       sync.Mutex
	watchers map[*watcher]struct{}
	closed   bool
	wg       sync.WaitGroup
}

type watcher struct {
	s      *Store
	table  Table
	prefix string
	wake   chan struct{}
	out    chan []Change
	stop   chan struct{} // closed with the store
}

const (
	// watchBatch is the size from which a batch of changes is sent, in changes; the rest of its transaction belongs to it.
	watchBatch = 256
	// watchBatchBytes is the same in bytes.
	watchBatchBytes = 1 << 20
)

func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.watchers)
}

// notify wakes who watches one of the tables; nil tables: everybody. It does not block.
func (h *hub) notify(tables map[Table]struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if _, ok := tables[w.table]; !ok && tables != nil {
			continue
		}
		w.rouse()
	}
}

func (h *hub) close() {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		for w := range h.watchers {
			close(w.stop)
		}
	}
	h.mu.Unlock()
	h.wg.Wait()
}

// Watch gives the changes to the records of the table whose keys have the prefix.
//
// With after 0 it first gives the records that there are, as changes in the order of their keys, and then every later
// change. Otherwise it gives every change behind revision after, or ErrCompacted if some of them are no longer kept:
// then list again, by after 0. In both cases one empty batch says that what was there at the call has been given.
// Changes come in the order of their revisions, and a transaction's changes in one batch.
//
// The channel is closed when ctx ends, when the store closes, and when the reader is so slow that changes it has not
// taken are no longer kept. A reader that sees it closed calls Watch again with the last revision that it got.
// Batches belong to the reader.
func (s *Store) Watch(ctx context.Context, table Table, prefix string, after uint64) (<-chan []Change, error) {
	w := &watcher{s: s, table: table, prefix: prefix, wake: make(chan struct{}, 1), out: make(chan []Change, 1), stop: make(chan struct{})}
	s.hub.mu.Lock()
	if s.hub.closed {
		s.hub.mu.Unlock()
		return nil, ErrClosed
	}
	s.hub.watchers[w] = struct{}{}
	s.hub.wg.Add(1)
	s.hub.mu.Unlock()
	// Registered first, so that no change falls between the view and the first wake.
	view := s.View()
	err := view.err
	if err == nil && after > 0 && after < view.meta.floor {
		err = fmt.Errorf("watch %s behind revision %d, %d is the oldest kept: %w", table, after, view.meta.floor, ErrCompacted)
	}
	if err == nil && after > view.meta.revision {
		err = fmt.Errorf("watch %s behind revision %d, the store is at %d: %w", table, after, view.meta.revision, ErrCompacted)
	}
	if err != nil {
		w.leave()
		_ = view.Close()
		return nil, err
	}
	go w.run(ctx, view, after)
	return w.out, nil
}

func (w *watcher) leave() {
	h := w.s.hub
	h.mu.Lock()
	delete(h.watchers, w)
	h.mu.Unlock()
	h.wg.Done()
}

func (w *watcher) run(ctx context.Context, view *View, after uint64) {
	defer w.leave()
	defer close(w.out)
	if !w.begin(ctx, view, &after) {
		return
	}
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		case <-w.stop:
			return
		}
		view := w.s.View()
		ok := view.err == nil && w.follow(ctx, view, &after)
		if view.Close() != nil || !ok {
			return
		}
	}
}

// begin gives what is there at the call.
func (w *watcher) begin(ctx context.Context, view *View, after *uint64) bool {
	var ok bool
	if *after == 0 {
		ok = w.list(ctx, view)
		*after = view.meta.revision
	} else {
		ok = w.follow(ctx, view, after)
	}
	return view.Close() == nil && ok && w.send(ctx, []Change{}, *after)
}

func (w *watcher) list(ctx context.Context, view *View) bool {
	var batch []Change
	size := 0
	for rec, err := range view.Scan(w.table, w.prefix, "") {
		if err != nil {
			w.s.o.Logger.Warn("a watch ends", "table", w.table, "error", err)
			return false
		}
		batch = append(batch, Change{Record: rec, Table: w.table})
		size += len(rec.Key) + len(rec.Value)
		if len(batch) >= watchBatch || size >= watchBatchBytes {
			if !w.send(ctx, batch, view.meta.revision) {
				return false
			}
			batch, size = nil, 0
		}
	}
	return len(batch) == 0 || w.send(ctx, batch, view.meta.revision)
}

// follow gives the changes behind after that the view has, and moves after to the view's revision.
func (w *watcher) follow(ctx context.Context, view *View, after *uint64) bool {
	if *after < view.meta.floor {
		w.tooSlow(*after)
		return false
	}
	if *after >= view.meta.revision {
		return true
	}
	for {
		batch, next, err := w.collect(view, *after)
		if err != nil {
			w.s.o.Logger.Warn("a watch ends", "table", w.table, "error", err)
			return false
		}
		if len(batch) > 0 && !w.send(ctx, batch, *after) {
			return false
		}
		if *after = next; next >= view.meta.revision {
			return true
		}
	}
}

// collect reads one batch of changes behind after, with no transaction cut, and the revision up to which it has read. It
// leaves no iterator open while the reader is waited for.
func (w *watcher) collect(view *View, after uint64) ([]Change, uint64, error) {
	it, err := view.snap.NewIter(&pebble.IterOptions{
		LowerBound: indexKey(keyChange, after+1), UpperBound: []byte{keyChange + 1}})
	if err != nil {
		return nil, 0, err
	}
	var batch []Change
	size := 0
	last := after
	for ok := it.First(); ok; ok = it.Next() {
		revision := binary.BigEndian.Uint64(it.Key()[1:])
		if revision != last && (len(batch) >= watchBatch || size >= watchBatchBytes) {
			return batch, last, it.Close()
		}
		last = revision
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, 0, joinClose(err, it)
		}
		if !changeMatches(v, w.table, w.prefix) {
			continue
		}
		c, err := decodeChange(it.Key(), v)
		if err != nil {
			return nil, 0, joinClose(err, it)
		}
		batch = append(batch, c)
		size += len(c.Key) + len(c.Value)
	}
	return batch, view.meta.revision, it.Close()
}

// send waits until the reader takes the batch, unless the changes behind revision held are no longer kept meanwhile.
func (w *watcher) send(ctx context.Context, batch []Change, held uint64) bool {
	select {
	case w.out <- batch:
		w.s.m.watchChanges.Add(len(batch))
		return true
	default:
	}
	woken := false
	defer func() {
		if woken {
			w.rouse()
		}
	}()
	for {
		select {
		case w.out <- batch:
			w.s.m.watchChanges.Add(len(batch))
			return true
		case <-w.wake:
			woken = true
			if w.s.floor.Load() > held {
				w.tooSlow(held)
				return false
			}
		case <-ctx.Done():
			return false
		case <-w.stop:
			return false
		}
	}
}

func (w *watcher) tooSlow(at uint64) {
	w.s.m.watchClosed.Inc()
	w.s.o.Logger.Warn("a watch is too slow and ends", "table", w.table, "prefix", w.prefix, "at", at, "kept", w.s.floor.Load())
}

// rouse wakes the watcher; it does not block.
func (w *watcher) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
