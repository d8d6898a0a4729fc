// Package disk watches how much room a node's file system has, so that a disk that fills is seen long before it is full. The last of it is kept in reserve: of what can wait nothing is
// taken in then, and commands, configuration and the deletion of what is old go on.
package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrLow: less than the reserve is left.
var ErrLow = errors.New("the disk is nearly full")

const (
	// lookEvery is how often the file system is asked.
	lookEvery = time.Second
	// least is the share of the file system that the reserve takes at most: one of so many parts.
	least = 10
	// warnAt reserves there is a warning.
	warnAt = 4
)

// Options of a Watch.
type Options struct {
	// Dir is a directory of the file system. It must be there.
	Dir string
	// Node's name, for the texts.
	Node string
	// Reserve in bytes; of a small file system it is a tenth at most. 0: no reserve, and no warning.
	Reserve int64
	// Usage asks the file system; nil: the operating system does. For tests.
	Usage   func(dir string) (vfs.DiskUsage, error)
	Logger  *slog.Logger
	Metrics *metrics.Set
}

// Watch knows the room of a file system as of about a second ago.
type Watch struct {
	o       Options
	free    atomic.Uint64
	size    atomic.Uint64
	low     atomic.Pointer[error]
	failing bool
	stop    chan struct{}
	done    sync.WaitGroup
}

// Open looks once, and then each second until Close.
func Open(o Options) (*Watch, error) {
	if o.Usage == nil {
		o.Usage = vfs.Default.GetDiskUsage
	}
	w := &Watch{o: o, stop: make(chan struct{})}
	if err := w.look(); err != nil {
		return nil, fmt.Errorf("ask for the room at %s: %w", o.Dir, err)
	}
	o.Metrics.NewGauge("pollux_disk_free_bytes", func() float64 { return float64(w.free.Load()) })
	o.Metrics.NewGauge("pollux_disk_size_bytes", func() float64 { return float64(w.size.Load()) })
	o.Metrics.NewGauge("pollux_disk_reserve_bytes", func() float64 { return float64(w.reserve()) })
	w.done.Go(w.run)
	return w, nil
}

func (w *Watch) run() {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-t.C:
		}
		err := w.look()
		if err != nil && !w.failing {
			w.o.Logger.Warn("the room of the disk is not known; what was known last holds", "dir", w.o.Dir, "error", err)
		}
		w.failing = err != nil
	}
}

func (w *Watch) look() error {
	u, err := w.o.Usage(w.o.Dir)
	if err != nil {
		return err
	}
	w.free.Store(u.AvailBytes)
	w.size.Store(u.TotalBytes)
	r, was := w.reserve(), w.low.Load() != nil
	until := r
	if was {
		until += r / 4 // so that a file which comes and goes does not open and shut the doors
	}
	if u.AvailBytes >= until {
		if w.low.Store(nil); was {
			w.o.Logger.Info("the disk has room again", "dir", w.o.Dir, "free", text(u.AvailBytes))
		}
		return nil
	}
	why := fmt.Errorf("%w: node %s has %s left", ErrLow, w.o.Node, text(u.AvailBytes))
	if w.low.Store(&why); !was {
		w.o.Logger.Warn("the disk is nearly full: what arrives waits, and is refused in time, until there is room", "dir", w.o.Dir, "free", text(u.AvailBytes),
			"reserve", text(r))
	}
	return nil
}

func (w *Watch) reserve() uint64 { return min(uint64(max(0, w.o.Reserve)), w.size.Load()/least) }

// Low says why nothing is taken in that can wait: an error that wraps ErrLow, or nil. It is cheap.
func (w *Watch) Low() error {
	if why := w.low.Load(); why != nil {
		return *why
	}
	return nil
}

// Room gives what is free for this process and what there is, in bytes.
func (w *Watch) Room() (free, size uint64) { return w.free.Load(), w.size.Load() }

// Warning says what somebody should do something about, or is empty.
func (w *Watch) Warning() string {
	r, free := w.reserve(), w.free.Load()
	switch {
	case w.Low() != nil:
		return fmt.Sprintf("node %s has %s of disk left: what arrives waits until there is room", w.o.Node, text(free))
	case free < warnAt*r:
		return fmt.Sprintf("node %s has %s of disk left; below %s what arrives has to wait", w.o.Node, text(free), text(r))
	}
	return ""
}

// Close ends the watch; what was known last stays.
func (w *Watch) Close() {
	close(w.stop)
	w.done.Wait()
}

// text is a number of bytes for people.
func text(n uint64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
