package history

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/protoparser/prometheus"
	"github.com/VictoriaMetrics/metrics"
)

// DefaultPushInterval is how often the node's own metrics go into history. Ten seconds show a minute's peak and cost
// some dozens of samples a second.
const DefaultPushInterval = 10 * time.Second

// insertStats count what goes in.
type insertStats struct {
	samples, errors *metrics.Counter
}

func newInsertStats(set *metrics.Set) insertStats {
	return insertStats{
		samples: set.GetOrCreateCounter("pollux_history_samples_total"),
		errors:  set.GetOrCreateCounter("pollux_history_insert_errors_total"),
	}
}

// PushOptions say what a Pusher sends.
type PushOptions struct {
	// Node is the value of the label node.
	Node string
	// Interval, 0 for DefaultPushInterval.
	Interval time.Duration
	// Gather writes the metrics in the Prometheus text format, as /metrics shows them. It must not block.
	Gather func(w io.Writer)
	// Logger gets failures, at most one line per outage. Nil: none.
	Logger *slog.Logger
	// Metrics gets the counter of pushes that failed. Nil: it is kept and not shown.
	Metrics *metrics.Set
}

// GatherNode returns a Gather for the given set, the metrics of the process (memory, CPU, goroutines, files) and those of
// the VictoriaMetrics in it (vm_…).
func GatherNode(set *metrics.Set) func(w io.Writer) {
	return func(w io.Writer) {
		set.WritePrometheus(w)
		writeOwnMetrics(w)
	}
}

// Pusher writes a node's own metrics into history, one sample of each every interval. What cannot be written is lost and
// counted in pollux_history_push_errors_total: the next one comes soon.
type Pusher struct {
	stop context.CancelFunc
	done sync.WaitGroup
}

// Push starts a Pusher, which runs until its Close. The first metrics are written at once.
func Push(sink MetricSink, o PushOptions) *Pusher {
	if o.Interval <= 0 {
		o.Interval = DefaultPushInterval
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pusher{stop: cancel}
	p.done.Go(func() { push(ctx, sink, o) })
	return p
}

func push(ctx context.Context, sink MetricSink, o PushOptions) {
	errs := o.Metrics.GetOrCreateCounter("pollux_history_push_errors_total")
	tick := time.NewTicker(o.Interval)
	defer tick.Stop()
	var text bytes.Buffer
	for failing := false; ; {
		text.Reset()
		o.Gather(&text)
		err := sink.InsertMetrics(ctx, text.String(), o.Node, time.Now())
		if err != nil && ctx.Err() == nil {
			errs.Inc()
			if !failing {
				o.Logger.Warn("node metrics not written to history", "error", err)
			}
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Close stops and waits for the push that runs.
func (p *Pusher) Close() {
	p.stop()
	p.done.Wait()
}

// parseMetrics calls each for every line of text. Lines that cannot be read, or with labels too long, are left out.
func parseMetrics(text string, each func(name string, labels func(add func(name, value string)), v float64)) {
	var parsed prometheus.Rows
	parsed.UnmarshalWithErrLogger(text, func(string) {})
	for i := range parsed.Rows {
		r := &parsed.Rows[i]
		if !shortLabels(r) {
			continue
		}
		each(r.Metric, func(add func(name, value string)) {
			for _, t := range r.Tags {
				if t.Key != "node" {
					add(t.Key, t.Value)
				}
			}
		}, r.Value)
	}
}

func shortLabels(r *prometheus.Row) bool {
	if len(r.Metric) > maxLabel {
		return false
	}
	for _, t := range r.Tags {
		if len(t.Key) > maxLabel || len(t.Value) > maxLabel {
			return false
		}
	}
	return true
}
