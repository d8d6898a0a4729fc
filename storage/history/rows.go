package history

import (
	"math"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/VictoriaMetrics/metrics"

	pollux "github.com/polluxhq/pollux/storage"
)

const (
	// maxLabel is the longest label value taken, in bytes. Ids and property names are far shorter.
	maxLabel = 1024
	// futureRetention is how far ahead of the clock a sample may be. It is the least that VictoriaMetrics can be told.
	futureRetention = 48 * time.Hour
)

// drops counts samples that can never be stored, by reason. What is only late is retried, not dropped.
type drops struct {
	nan, old, future, label *metrics.Counter
}

func newDrops(set *metrics.Set) drops {
	c := func(reason string) *metrics.Counter {
		return set.GetOrCreateCounter(`pollux_history_dropped_samples_total{reason="` + reason + `"}`)
	}
	return drops{nan: c("nan"), old: c("too_old"), future: c("in_the_future"), label: c("bad_label")}
}

// bounds of times that are stored, in milliseconds since 1970.
type bounds struct{ min, max int64 }

func boundsAt(now time.Time, retention time.Duration) bounds {
	return bounds{min: now.Add(-retention).UnixMilli(), max: now.Add(futureRetention).UnixMilli()}
}

// admit says whether a sample can be stored, and counts it if not.
func (d *drops) admit(s *pollux.Sample, b bounds) bool {
	switch {
	case math.IsNaN(s.Value):
		d.nan.Inc()
	case s.Time < b.min:
		d.old.Inc()
	case s.Time > b.max:
		d.future.Inc()
	case s.Property == "" || len(s.Property) > maxLabel:
		d.label.Inc()
	default:
		return true
	}
	return false
}

// admitTwin says whether the twin's labels can be stored, and counts its samples if not.
func (d *drops) admitTwin(t *pollux.TwinSamples) bool {
	if t.Project == "" || t.Twin == "" || len(t.Project) > maxLabel || len(t.Twin) > maxLabel || len(t.Model) > maxLabel {
		d.label.Add(len(t.Samples))
		return false
	}
	return true
}

// rows is a batch in the form that VictoriaMetrics' storage takes. It is reused from batch to batch; the names share one
// buffer, which the storage copies from.
type rows struct {
	mrs   []storage.MetricRow
	names []byte
	ends  []int // of each row's name in names; turned into slices when names no longer moves
}

func (r *rows) reset() {
	clear(r.mrs)
	r.mrs, r.names, r.ends = r.mrs[:0], r.names[:0], r.ends[:0]
}

// addTwin appends a twin's samples. A series' name is written out anew each time: the part of the twin once, then for
// each sample a copy of it and the property. This costs less than a look-up (see DESIGN.md).
func (r *rows) addTwin(t *pollux.TwinSamples, d *drops, b bounds) {
	if !d.admitTwin(t) {
		return
	}
	from, to := -1, 0 // the twin's part within names
	for i := range t.Samples {
		s := &t.Samples[i]
		if !d.admit(s, b) {
			continue
		}
		if from < 0 {
			from = len(r.names)
			r.label("", Metric)
			r.label("project", t.Project)
			r.label("twin", t.Twin)
			r.label("model", t.Model)
			to = len(r.names)
		} else {
			r.names = append(r.names, r.names[from:to]...)
		}
		r.label("property", s.Property)
		r.row(s.Time, s.Value)
	}
}

// label appends one label; an empty value is no label.
func (r *rows) label(name, value string) {
	if value == "" {
		return
	}
	r.names = append(r.names, byte(len(name)>>8), byte(len(name)))
	r.names = append(r.names, name...)
	r.names = append(r.names, byte(len(value)>>8), byte(len(value)))
	r.names = append(r.names, value...)
}

// row ends the name that label began.
func (r *rows) row(at int64, v float64) {
	r.mrs = append(r.mrs, storage.MetricRow{Timestamp: at, Value: v})
	r.ends = append(r.ends, len(r.names))
}

// finish gives the rows their names. They are valid until the next reset.
func (r *rows) finish() []storage.MetricRow {
	from := 0
	for i, to := range r.ends {
		r.mrs[i].MetricNameRaw = r.names[from:to:to]
		from = to
	}
	return r.mrs
}
