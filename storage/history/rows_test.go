package history

import (
	"bytes"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/VictoriaMetrics/metrics"

	pollux "github.com/polluxhq/pollux/storage"
)

// TestRowNames holds our way to write names against the storage's own.
func TestRowNames(t *testing.T) {
	d := newDrops(metrics.NewSet())
	b := boundsAt(time.Now(), DefaultRetention)
	now := time.Now().UnixMilli()
	var r rows
	for range 2 { // the second time with used buffers
		r.reset()
		r.addTwin(&pollux.TwinSamples{Project: "default", Twin: "a", Model: "m", Samples: []pollux.Sample{
			{Property: "old", Time: 1, Value: 1}, {Property: "power", Time: now, Value: 1}, {Property: "level", Time: now + 1, Value: 2.5},
		}}, &d, b)
		r.addTwin(&pollux.TwinSamples{Project: "other", Twin: "b", Samples: []pollux.Sample{{Property: "x", Time: now, Value: -1}}}, &d, b)
		want := []struct {
			labels []prompb.Label
			at     int64
			v      float64
		}{
			{[]prompb.Label{{Name: "__name__", Value: Metric}, {Name: "project", Value: "default"}, {Name: "twin", Value: "a"}, {Name: "model", Value: "m"}, {Name: "property", Value: "power"}}, now, 1},
			{[]prompb.Label{{Name: "__name__", Value: Metric}, {Name: "project", Value: "default"}, {Name: "twin", Value: "a"}, {Name: "model", Value: "m"}, {Name: "property", Value: "level"}}, now + 1, 2.5},
			{[]prompb.Label{{Name: "__name__", Value: Metric}, {Name: "project", Value: "other"}, {Name: "twin", Value: "b"}, {Name: "property", Value: "x"}}, now, -1},
		}
		got := r.finish()
		if len(got) != len(want) {
			t.Fatalf("%d rows, want %d", len(got), len(want))
		}
		for i, w := range want {
			if name := storage.MarshalMetricNameRaw(nil, w.labels); !bytes.Equal(got[i].MetricNameRaw, name) || got[i].Timestamp != w.at || got[i].Value != w.v {
				t.Errorf("row %d is %q %d %v, want %q", i, got[i].MetricNameRaw, got[i].Timestamp, got[i].Value, name)
			}
		}
	}
	if n := d.old.Get(); n != 2 {
		t.Errorf("%d old samples counted", n)
	}
}

// TestRowsAllocateNothing: a warm batch costs no memory.
func TestRowsAllocateNothing(t *testing.T) {
	d := newDrops(metrics.NewSet())
	b := boundsAt(time.Now(), DefaultRetention)
	batch := benchBatch(500, time.Now())
	var r rows
	if n := testing.AllocsPerRun(100, func() {
		r.reset()
		for i := range batch {
			r.addTwin(&batch[i], &d, b)
		}
		r.finish()
	}); n > 0 {
		t.Errorf("%v allocations for a batch", n)
	}
}
