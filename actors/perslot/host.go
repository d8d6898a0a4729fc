// Package perslot runs what a record asks for on the node that owns the record's slot: one goroutine for each, under one ownership of
// the slot and one revision of the record. It is for the few that block on the network, such as sinks and sources, and not for twins.
//
// What a run commits has to carry the guard on its slot's record (Run.Guards): a run of an earlier owner may go on for a moment.
package perslot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage"
)

// ErrMoved: the run's record or slot is another one by now. It ends, and the next one begins.
var ErrMoved = errors.New("its record or its slot is another one now")

// Options of a Host.
type Options struct {
	Store *storage.Store
	// Kind of the actors: their address, and so their slot, is Kind/ID, which is no twin's id.
	Kind string
	// Table of the records.
	Table storage.Table
	// Wanted says whether a record shall run.
	Wanted func(rec storage.Record) (bool, error)
	// Run does it until its context ends, or until it cannot go on: then it is started again.
	Run func(r *Run) error
	// Owned gives the record of a slot that this node owns, or nil.
	Owned  func(cluster.Slot) *cluster.Ownership
	Logger *slog.Logger
}

// Run is the life of one record on this node.
type Run struct {
	// Ctx ends when the record, the slot or the node does.
	Ctx    context.Context
	Record storage.Record

	own    *cluster.Ownership
	table  storage.Table
	cancel context.CancelFunc
	ended  chan struct{}
}

// Guards prove that the slot and the record are still the run's.
func (r *Run) Guards() []storage.Guard {
	return []storage.Guard{r.Owner(), {Table: r.table, Key: r.Record.Key, Revision: r.Record.Revision}}
}

// Owner is the guard on the slot alone, for what a run writes when its record has changed.
func (r *Run) Owner() storage.Guard {
	return storage.Guard{Table: storage.Table(r.own.Table), Key: r.own.Key, Equal: r.own.Value}
}

// Host runs the records of the slots that this node owns. Safe for concurrent use.
type Host struct {
	o    Options
	wake chan struct{}
	ctx  context.Context
	stop context.CancelFunc

	mu   sync.Mutex
	runs map[string]*Run
	wg   sync.WaitGroup
}

// New makes a host. Close it.
func New(o Options) *Host {
	h := &Host{o: o, wake: make(chan struct{}, 1), runs: map[string]*Run{}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// Start begins to run records.
func (h *Host) Start() {
	h.wg.Add(1)
	go func() {
		defer h.wg.Done()
		for h.ctx.Err() == nil {
			if err := h.look(); err != nil {
				h.o.Logger.Warn("look at records", "kind", h.o.Kind, "err", err)
				h.wakeIn(time.Second)
			}
			select {
			case <-h.ctx.Done():
			case <-h.wake:
			}
		}
	}()
}

// Wake has the host look at the records and slots again. It does not block.
func (h *Host) Wake() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *Host) wakeIn(d time.Duration) { time.AfterFunc(d, h.Wake) }

// Close stops everything, and waits for it.
func (h *Host) Close() {
	h.stop()
	h.wg.Wait()
}

func (h *Host) slotOf(id string) cluster.Slot { return cluster.SlotOf(h.o.Kind + "/" + id) }

// look starts and stops runs by what is configured and owned.
func (h *Host) look() error {
	wanted := map[string]*Run{}
	for rec, err := range h.o.Store.Scan(h.o.Table, "", "") {
		if err != nil {
			return fmt.Errorf("read records: %w", err)
		}
		own := h.o.Owned(h.slotOf(rec.Key))
		if own == nil {
			continue
		}
		yes, err := h.o.Wanted(rec)
		if err != nil { // the others run
			h.o.Logger.Error("a record cannot be read: it does not run", "kind", h.o.Kind, "id", rec.Key, "err", err)
			continue
		}
		if yes {
			wanted[rec.Key] = &Run{Record: rec, own: own, table: h.o.Table, ended: make(chan struct{})}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, r := range h.runs {
		if w := wanted[id]; w == nil || w.Record.Revision != r.Record.Revision || w.own.Since != r.own.Since {
			r.cancel() // it wakes the host when it has ended
		}
	}
	for id, w := range wanted {
		if h.runs[id] == nil && h.ctx.Err() == nil {
			h.runs[id] = w
			w.Ctx, w.cancel = context.WithCancel(h.ctx)
			h.wg.Add(1)
			go h.run(w)
		}
	}
	return nil
}

func (h *Host) run(r *Run) {
	defer h.wg.Done()
	err := h.o.Run(r)
	stopped := r.Ctx.Err() != nil
	r.cancel()
	h.mu.Lock()
	if h.runs[r.Record.Key] == r {
		delete(h.runs, r.Record.Key)
	}
	h.mu.Unlock()
	close(r.ended)
	if stopped {
		h.Wake()
		return
	}
	if !errors.Is(err, ErrMoved) {
		h.o.Logger.Warn("stopped, and is started again", "kind", h.o.Kind, "id", r.Record.Key, "err", err)
	}
	h.wakeIn(time.Second)
}

// Release lets go of the records of some slots. done is called when none of them runs, after 8 s at the latest.
func (h *Host) Release(mine func(cluster.Slot) bool, done func()) {
	h.mu.Lock()
	var ends []chan struct{}
	for id, r := range h.runs {
		if mine(h.slotOf(id)) {
			r.cancel()
			ends = append(ends, r.ended)
		}
	}
	h.mu.Unlock()
	WhenEnded(ends, h.o.Logger, h.o.Kind, done)
}

// WhenEnded calls done when every one of ends is closed, or after 8 s, and says then what did not stop. It does not block.
func WhenEnded(ends []chan struct{}, log *slog.Logger, what string, done func()) {
	if len(ends) == 0 {
		done()
		return
	}
	go func() {
		defer done()
		late := time.After(8 * time.Second)
		for _, c := range ends {
			select {
			case <-c:
			case <-late:
				log.Warn("did not stop in time", "kind", what)
				return
			}
		}
	}()
}

// maxText of what a record holds of an error, in bytes.
const maxText = 500

// Short makes what another system said a text that a record can hold: its beginning, in UTF-8.
func Short(text string) string { return strings.ToValidUTF8(text[:min(len(text), maxText)], "?") }
