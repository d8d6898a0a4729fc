package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	// TableSinks: id → pb.Sink, what was configured.
	TableSinks storage.Table = "sink"
	// TableCursors: id → pb.SinkState, how far it is.
	TableCursors storage.Table = "sinkat"
)

// Options of a Host.
type Options struct {
	Store  *storage.Store
	Topics *topic.Host
	// Owned gives the record of a slot that this node owns, or nil.
	Owned func(cluster.Slot) *cluster.Ownership
	// LeaseValid says whether this node may act now.
	LeaseValid func() bool
	// Secret opens a sink's secret.
	Secret func(m *pb.Sink) (string, error)
	// Files is the directory of `file:` sinks; empty: there are none on this node.
	Files string
	// Node is this node's id.
	Node    string
	Logger  *slog.Logger
	Metrics *metrics.Set
}

// Host runs the sinks of the slots that this node owns. Safe for concurrent use.
type Host struct {
	o    Options
	wake chan struct{}
	ctx  context.Context
	stop context.CancelFunc

	mu   sync.Mutex
	runs map[string]*run
	wg   sync.WaitGroup

	delivered, missed, refused, failures *metrics.Counter
}

// New makes a host. Close it.
func New(o Options) *Host {
	h := &Host{o: o, wake: make(chan struct{}, 1), runs: map[string]*run{}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	count := func(name string) *metrics.Counter { return o.Metrics.GetOrCreateCounter("pollux_sink_" + name) }
	h.delivered, h.missed = count("delivered_total"), count("missed_total")
	h.refused, h.failures = count("refused_total"), count("failures_total")
	return h
}

// Start begins to run sinks.
func (h *Host) Start() {
	h.wg.Add(1)
	go func() {
		defer h.wg.Done()
		for h.ctx.Err() == nil {
			if err := h.look(); err != nil {
				h.o.Logger.Warn("look at sinks", "err", err)
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

// Close stops everything.
func (h *Host) Close() {
	h.stop()
	h.wg.Wait()
}

// slotOf is the slot of a sink's actor. It is no twin's id, so a twin of the same name has a slot of its own.
func slotOf(id string) cluster.Slot { return cluster.SlotOf("sink/" + id) }

// look starts and stops runs by what is configured and owned.
func (h *Host) look() error {
	wanted := map[string]*run{}
	for rec, err := range h.o.Store.Scan(TableSinks, "", "") {
		if err != nil {
			return fmt.Errorf("read sinks: %w", err)
		}
		own := h.o.Owned(slotOf(rec.Key))
		if own == nil {
			continue
		}
		m := &pb.Sink{}
		if err := proto.Unmarshal(rec.Value, m); err != nil {
			return fmt.Errorf("sink %s: %w", rec.Key, err)
		}
		if !m.Paused {
			m.Id, m.Revision = rec.Key, rec.Revision
			wanted[rec.Key] = &run{h: h, m: m, own: own, ended: make(chan struct{})}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, r := range h.runs {
		if w := wanted[id]; w == nil || w.m.Revision != r.m.Revision || w.own.Since != r.own.Since {
			r.cancel() // it wakes the host when it has ended
		}
	}
	for id, w := range wanted {
		if h.runs[id] == nil && h.ctx.Err() == nil {
			h.runs[id] = w
			w.ctx, w.cancel = context.WithCancel(h.ctx)
			h.wg.Add(1)
			go w.run()
		}
	}
	return nil
}

// ended takes a run out.
func (h *Host) gone(r *run, err error) {
	h.mu.Lock()
	if h.runs[r.m.Id] == r {
		delete(h.runs, r.m.Id)
	}
	h.mu.Unlock()
	close(r.ended)
	if err != nil && !errors.Is(err, context.Canceled) {
		h.o.Logger.Warn("sink stopped, and is started again", "sink", r.m.Id, "err", err)
		h.wakeIn(time.Second)
		return
	}
	h.Wake()
}

// Release lets go of the sinks of some slots. done is called when none of them is left, after 8 s at the latest.
func (h *Host) Release(mine func(cluster.Slot) bool, done func()) {
	h.mu.Lock()
	var ends []chan struct{}
	for id, r := range h.runs {
		if mine(slotOf(id)) {
			r.cancel()
			ends = append(ends, r.ended)
		}
	}
	h.mu.Unlock()
	if len(ends) == 0 {
		done()
		return
	}
	go func() {
		late := time.After(8 * time.Second)
		for _, c := range ends {
			select {
			case <-c:
			case <-late:
				h.o.Logger.Warn("sinks did not stop in time")
				done()
				return
			}
		}
		done()
	}()
}
