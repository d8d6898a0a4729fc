package history

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vminsert/common"
	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/VictoriaMetrics/metrics"

	pollux "github.com/polluxhq/pollux/storage"
)

const benchTwins = 1000

// benchBatch is n samples of properties of 5 per twin.
func benchBatch(n int, at time.Time) []pollux.TwinSamples {
	var batch []pollux.TwinSamples
	for i := 0; i < n; i += 5 {
		t := pollux.TwinSamples{Project: "default", Twin: fmt.Sprintf("device-%04d", i/5%benchTwins), Model: "projector"}
		for k := range 5 {
			t.Samples = append(t.Samples, pollux.Sample{Property: fmt.Sprintf("property%d", k), Time: at.UnixMilli(), Value: float64(i + k)})
		}
		batch = append(batch, t)
	}
	return batch
}

// benchBatches are batches of 500 that between them have every twin once.
func benchBatches(at time.Time) [][]pollux.TwinSamples {
	all := benchBatch(5*benchTwins, at)
	var batches [][]pollux.TwinSamples
	for i := 0; i < len(all); i += 100 {
		batches = append(batches, all[i:i+100])
	}
	return batches
}

// BenchmarkInsert compares, in one run: our wrapper; VictoriaMetrics' storage with rows whose names are ready made; and
// its insert path with labels, as its own HTTP handlers use it. Each op is a batch of 500 samples.
func BenchmarkInsert(b *testing.B) {
	e := openEmbedded(b, Options{})
	start := time.Now().Add(-time.Hour)
	batches := benchBatches(start)
	for i := range batches { // the series exist from here on
		if err := e.Insert(b.Context(), 1, batches[i]); err != nil {
			b.Fatal(err)
		}
	}
	report := func(b *testing.B) {
		b.ReportAllocs()
		b.ReportMetric(float64(b.N)*500/b.Elapsed().Seconds(), "samples/s")
	}
	b.Run("wrapper", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			batch := batches[i%len(batches)]
			for k := range batch {
				for n := range batch[k].Samples {
					batch[k].Samples[n].Time++
				}
			}
			if err := e.Insert(b.Context(), 1, batch); err != nil {
				b.Fatal(err)
			}
		}
		report(b)
	})
	b.Run("bare storage", func(b *testing.B) {
		ready := benchRows(batches)
		for i := 0; b.Loop(); i++ {
			mrs := ready[i%len(ready)]
			for k := range mrs {
				mrs[k].Timestamp++
			}
			if err := vmstorage.VMInsertAPI.WriteRows(mrs); err != nil {
				b.Fatal(err)
			}
		}
		report(b)
	})
	b.Run("bare vminsert", func(b *testing.B) {
		labels := benchLabels(batches)
		ctx := common.GetInsertCtx()
		defer common.PutInsertCtx(ctx)
		for i := 0; b.Loop(); i++ {
			ctx.Reset(500)
			for k, l := range labels[i%len(labels)] {
				if err := ctx.WriteDataPoint(nil, l, start.UnixMilli()+int64(i), float64(k)); err != nil {
					b.Fatal(err)
				}
			}
			if err := ctx.FlushBufs(); err != nil {
				b.Fatal(err)
			}
		}
		report(b)
	})
}

// BenchmarkSamples is BenchmarkInsert's ratio for the project's table of benchmarks: wrapper and bare storage in turn, medians.
func BenchmarkSamples(b *testing.B) {
	e := openEmbedded(b, Options{})
	batches := benchBatches(time.Now().Add(-time.Hour))
	ready := benchRows(batches)
	turn := func(insert func(i int) error) float64 {
		began, n := time.Now(), 0
		for ; time.Since(began) < 1500*time.Millisecond; n++ {
			if err := insert(n % len(batches)); err != nil {
				b.Fatal(err)
			}
		}
		return float64(n) * 500 / time.Since(began).Seconds()
	}
	wrapper := func(i int) error {
		for k := range batches[i] {
			for n := range batches[i][k].Samples {
				batches[i][k].Samples[n].Time++
			}
		}
		return e.Insert(b.Context(), 1, batches[i])
	}
	bare := func(i int) error {
		for k := range ready[i] {
			ready[i][k].Timestamp++
		}
		return vmstorage.VMInsertAPI.WriteRows(ready[i])
	}
	var ours, floor []float64
	for range 5 {
		floor, ours = append(floor, turn(bare)), append(ours, turn(wrapper))
	}
	slices.Sort(ours)
	slices.Sort(floor)
	ratio := ours[2] / floor[2]
	line, err := json.Marshal(map[string]any{"name": "samples into the embedded VictoriaMetrics, batches of 500", "unit": "samples/s",
		"ours": ours[2], "floor": floor[2], "ratio": ratio, "goal": "ratio >= 0.50", "met": ratio >= 0.5})
	if err != nil {
		b.Fatal(err)
	}
	fmt.Printf("\nBENCH %s\n", line)
	b.ReportMetric(ratio, "ratio")
}

func benchLabels(batches [][]pollux.TwinSamples) [][][]prompb.Label {
	var all [][][]prompb.Label
	for _, batch := range batches {
		var labels [][]prompb.Label
		for _, t := range batch {
			for _, s := range t.Samples {
				labels = append(labels, []prompb.Label{{Name: "", Value: Metric}, {Name: "project", Value: t.Project}, {Name: "twin", Value: t.Twin},
					{Name: "model", Value: t.Model}, {Name: "property", Value: s.Property}})
			}
		}
		all = append(all, labels)
	}
	return all
}

func benchRows(batches [][]pollux.TwinSamples) [][]storage.MetricRow {
	var all [][]storage.MetricRow
	for i, batch := range benchLabels(batches) {
		var mrs []storage.MetricRow
		for k, l := range batch {
			s := batches[i][k/5].Samples[k%5]
			mrs = append(mrs, storage.MetricRow{MetricNameRaw: storage.MarshalMetricNameRaw(nil, l), Timestamp: s.Time, Value: s.Value})
		}
		all = append(all, mrs)
	}
	return all
}

// BenchmarkNames compares writing a series' name anew with looking it up, warm, of 10,000 series. Each op is a sample.
func BenchmarkNames(b *testing.B) {
	batch := benchBatch(10_000, time.Now())
	for i := range batch { // 2,000 twins
		batch[i].Twin = fmt.Sprintf("building-7-device-%05d", i)
	}
	b.Run("written", func(b *testing.B) {
		d, bo := newDrops(metrics.NewSet()), boundsAt(time.Now(), DefaultRetention)
		var r rows
		for i := 0; i < b.N; i += 5 {
			if i%500 == 0 {
				r.reset()
			}
			r.addTwin(&batch[i/5%len(batch)], &d, bo)
		}
	})
	b.Run("looked up", func(b *testing.B) {
		type key struct{ project, twin, model, property string }
		names := map[key][]byte{}
		for _, t := range batch {
			for _, s := range t.Samples {
				names[key{t.Project, t.Twin, t.Model, s.Property}] = []byte(t.Twin)
			}
		}
		b.ResetTimer()
		n := 0
		for i := 0; i < b.N; i += 5 {
			t := &batch[i/5%len(batch)]
			for k := range t.Samples {
				n += len(names[key{t.Project, t.Twin, t.Model, t.Samples[k].Property}])
			}
		}
		if n == 0 {
			b.Fatal("nothing found")
		}
	})
}

// BenchmarkRemote sends batches of 5,000 samples to a real server; the time ends when the queue is empty.
func BenchmarkRemote(b *testing.B) {
	s := startServer(b)
	r := openRemote(b, s, RemoteOptions{})
	batch := benchBatch(5000, time.Now().Add(-time.Hour))
	b.ResetTimer()
	for i := range b.N {
		for k := range batch {
			for n := range batch[k].Samples {
				batch[k].Samples[n].Time++
			}
		}
		if err := r.Insert(b.Context(), uint64(i+1), batch); err != nil {
			b.Fatal(err)
		}
	}
	inserted := b.Elapsed()
	eventually(b, time.Minute, "all is sent", func() bool { return r.Pending() == 0 })
	b.ReportMetric(float64(b.N)*5000/inserted.Seconds(), "queued/s")
	b.ReportMetric(float64(b.N)*5000/b.Elapsed().Seconds(), "samples/s")
}
