package rpc_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// question is one of the past, in milliseconds.
type question struct {
	property, aggregate, fill, unit string
	start, end, step                int64
	limit                           int
}

func pick[T any](k *known, of ...T) T { return of[k.random.IntN(len(of))] }

// question makes one up: ranges that end where samples are and elsewhere, with nothing in them, and in part before the first.
func (k *known) question(properties ...string) question {
	ms := func() int64 {
		return k.begin.UnixMilli() + k.random.Int64N((knownSpan + time.Hour).Milliseconds()) - 30*60_000
	}
	q := question{property: pick(k, properties...), start: ms(), end: ms()}
	if q.start > q.end {
		q.start, q.end = q.end, q.start
	}
	if k.random.IntN(2) == 0 {
		q.start, q.end = q.start-q.start%60_000, q.end-q.end%60_000
	}
	if k.random.IntN(20) == 0 {
		q.end = q.start
	}
	return q
}

// steps adds to a question what those in steps have.
func (q question) steps(k *known) question {
	q.step = pick[int64](k, 60_000, 60_000, 300_000, 1_023_000, 3_600_000, 1_500, 86_400_000)
	q.aggregate = pick(k, "", "avg", "min", "max", "sum", "count", "dev", "first", "last", "delta", "rate", "p0", "p50", "p95", "p99.9", "p100")
	q.fill = pick(k, "", "none", "null", "previous", "linear")
	if q.property == "temperature" && q.aggregate != "count" && k.random.IntN(2) == 0 {
		q.unit = pick(k, "[degF]", "K", "Cel", "°C", "DEG_F")
	}
	return q
}

// values are those of n steps that end at end, computed of the samples; NaN where there are none.
func (q *question) values(w *knownTwin, n int) []float64 {
	points, out := w.numbers[q.property], make([]float64, n)
	for i := range out {
		at := q.end - int64(n-1-i)*q.step
		out[i] = math.NaN()
		if of := between(points, at-q.step, at); len(of) > 0 {
			out[i] = schoolbook(q.aggregate, of, between(points, 0, at-q.step), float64(q.step)/1000)
			if q.unit != "" {
				out[i] = toUnit(out[i], w.unit, q.unit, slices.Contains([]string{"dev", "delta", "rate"}, q.aggregate))
			}
		}
	}
	return out
}

// toUnit converts a temperature, or the difference of two.
func toUnit(x float64, from, to string, difference bool) float64 {
	fahrenheit := func(unit string) bool { return unit == "[degF]" || unit == "DEG_F" }
	zero := func(unit string) float64 { // in degrees of its own, of 0 °C
		switch {
		case difference || unit == "Cel" || unit == "°C":
			return 0
		case fahrenheit(unit):
			return 32
		}
		return 273.15
	}
	x -= zero(from)
	if fahrenheit(from) {
		x *= 5. / 9
	}
	if fahrenheit(to) {
		x *= 9. / 5
	}
	return x + zero(to)
}

// fillIn fills gaps.
func fillIn(values []float64, fill string) []float64 {
	out := slices.Clone(values)
	for i := range out {
		if !math.IsNaN(values[i]) {
			continue
		}
		left, right := i, i
		for left >= 0 && math.IsNaN(values[left]) {
			left--
		}
		for right < len(values) && math.IsNaN(values[right]) {
			right++
		}
		switch {
		case left >= 0 && fill == "previous":
			out[i] = values[left]
		case left >= 0 && right < len(values) && fill == "linear":
			out[i] = values[left] + (values[right]-values[left])*float64(i-left)/float64(right-left)
		}
	}
	return out
}

// refusesSum: a sum cannot be moved to another zero.
func (q *question) refusesSum(w *knownTwin) bool {
	return q.aggregate == "sum" && q.unit != "" && toUnit(0, w.unit, q.unit, false) != 0
}

func (q *question) of(w *knownTwin) *pb.QueryHistoryRequest {
	r := &pb.QueryHistoryRequest{Id: w.id, Property: q.property, Aggregate: q.aggregate, Fill: q.fill, Unit: q.unit, Limit: uint32(q.limit),
		Start: timestamppb.New(time.UnixMilli(q.start)), End: timestamppb.New(time.UnixMilli(q.end))}
	if q.step > 0 {
		r.Step = durationpb.New(time.Duration(q.step) * time.Millisecond)
	}
	return r
}

// TestAnswersAgainstTheSamples asks the past of one twin, and of many, in many ways. Each answer is the one that the samples give.
func TestAnswersAgainstTheSamples(t *testing.T) {
	k := knownPast(t, 20)
	t.Run("steps", func(t *testing.T) {
		for range 600 {
			k.askSteps(t)
		}
	})
	t.Run("texts", func(t *testing.T) {
		for range 100 {
			k.askTexts(t)
		}
	})
	t.Run("raw", func(t *testing.T) {
		for range 40 {
			k.askRaw(t)
		}
	})
	t.Run("series", func(t *testing.T) {
		for range 250 {
			k.askSeries(t)
		}
	})
	t.Run("exports", k.askExports)
}

func (k *known) askSteps(t *testing.T) {
	t.Helper()
	w := pick(k, k.twins...)
	q := k.question("temperature", "temperature", "energy", "on").steps(k)
	q.limit = pick(k, 0, 0, 0, 1, 7, 500)
	res, err := k.h.twins(k.h.admin).QueryHistory(t.Context(), req(q.of(w)))
	if q.refusesSum(w) {
		if connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%+v: %v", q, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	most := q.limit
	if most == 0 {
		most = 10_000
	}
	n := min(int((q.end-q.start)/q.step)+1, most)
	want := q.values(w, n)
	shows := func(i int) bool { return !math.IsNaN(want[i]) }
	if q.fill != "" && q.fill != "none" {
		want = fillIn(want, q.fill)
		shows = func(int) bool { return true }
	}
	first := q.end - int64(n-1)*q.step
	if older := len(between(w.numbers[q.property], q.start-q.step, first-q.step)) > 0; res.Msg.Truncated != (older && n == most) && q.start <= first-q.step {
		t.Errorf("%+v: truncated %v", q, res.Msg.Truncated)
	}
	got := res.Msg.Samples
	for i := range want {
		if !shows(i) {
			continue
		}
		at := first + int64(i)*q.step
		if len(got) == 0 || got[0].Time.AsTime().UnixMilli() != at {
			t.Fatalf("%+v of %s (%s): at %d there is none, want %v; %v", q, w.id, w.unit, at, want[i], got)
		}
		if value := got[0].Value; math.IsNaN(want[i]) != got[0].None || !got[0].None && !alike(value, want[i], value) {
			t.Errorf("%+v of %s (%s): at %d %v, want %v", q, w.id, w.unit, at, got[0], want[i])
		}
		got = got[1:]
	}
	if len(got) > 0 {
		t.Errorf("%+v: too much: %v", q, got)
	}
}

func (k *known) askTexts(t *testing.T) {
	t.Helper()
	w := pick(k, k.twins...)
	q := k.question("mode").steps(k)
	q.aggregate, q.fill, q.limit = pick(k, "first", "last", "count"), pick(k, "", "none"), pick(k, 0, 0, 3)
	res, err := k.h.twins(k.h.admin).QueryHistory(t.Context(), req(q.of(w)))
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	n := int((q.end-q.start)/q.step) + 1
	if q.limit > 0 {
		n = min(n, q.limit)
	} else {
		n = min(n, 10_000)
	}
	var want, got []string
	for i := range n {
		at := q.end - int64(n-1-i)*q.step
		var of []string
		for _, m := range w.modes {
			if m.ms > at-q.step && m.ms <= at {
				of = append(of, m.text)
			}
		}
		if len(of) > 0 {
			want = append(want, fmt.Sprint(at, " ", map[string]string{"count": fmt.Sprint(len(of)), "first": of[0], "last": of[len(of)-1]}[q.aggregate]))
		}
	}
	for _, s := range res.Msg.Samples {
		value := s.Data.GetStringValue()
		if q.aggregate == "count" {
			value = fmt.Sprint(s.Value)
		}
		got = append(got, fmt.Sprint(s.Time.AsTime().UnixMilli(), " ", value))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v of %s:\ngot  %q\nwant %q", q, w.id, got, want)
	}
}

// askRaw reads raw values by pages of some length; all together are what there is.
func (k *known) askRaw(t *testing.T) {
	t.Helper()
	w := pick(k, k.twins...)
	q := k.question("temperature", "on", "energy", "mode")
	q.limit = pick(k, 1, 2, 13, 100, 10_000)
	if q.limit < 13 {
		q.start = max(q.start, q.end-20*60_000)
	}
	if q.property == "temperature" {
		q.unit = pick(k, "", "[degF]")
	}
	var got, want []string
	for _, s := range k.h.pages(t, q.of(w)) {
		got = append(got, fmt.Sprintf("%d %.9g%q", s.Time.AsTime().UnixMilli(), s.Value, s.Data.GetStringValue()))
	}
	for _, p := range between(w.numbers[q.property], q.start-1, q.end) {
		if q.unit != "" {
			p.value = toUnit(p.value, w.unit, q.unit, false)
		}
		want = append(want, fmt.Sprintf("%d %.9g%q", p.ms, p.value, ""))
	}
	for _, m := range w.modes {
		if q.property == "mode" && m.ms >= q.start && m.ms <= q.end {
			want = append(want, fmt.Sprintf("%d %.9g%q", m.ms, 0., m.text))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v of %s:\ngot  %v\nwant %v", q, w.id, got, want)
	}
}

// askSeries asks for a property of many twins side by side, or of groups of them.
func (k *known) askSeries(t *testing.T) {
	t.Helper()
	q := k.question("temperature", "energy", "on").steps(k)
	q.start = max(q.start, q.end-2_000*q.step)
	r := &pb.QuerySeriesRequest{Property: q.property, Aggregate: q.aggregate, Fill: q.fill, Unit: q.unit, Filter: &pb.TwinFilter{Project: k.project},
		Start: timestamppb.New(time.UnixMilli(q.start)), End: timestamppb.New(time.UnixMilli(q.end)), Step: durationpb.New(time.Duration(q.step) * time.Millisecond)}
	chosen := func(*knownTwin) bool { return true }
	switch floor := fmt.Sprint(k.random.IntN(3)); k.random.IntN(4) {
	case 0:
		r.Filter.Labels = map[string]string{"floor": floor}
		chosen = func(w *knownTwin) bool { return w.floor == floor }
	case 1:
		r.Filter.Zone = k.project + "/west"
		chosen = func(w *knownTwin) bool { return strings.HasSuffix(w.zone, "/west") }
	case 2:
		r.Filter.Where = `twin.labels.floor != "` + floor + `"`
		chosen = func(w *knownTwin) bool { return w.floor != floor }
	}
	keys := map[string]func(*knownTwin) string{"zone": func(w *knownTwin) string { return w.zone }, "model": func(w *knownTwin) string { return w.model },
		"label:floor": func(w *knownTwin) string { return w.floor }, "all": func(*knownTwin) string { return "" }}
	if k.random.IntN(3) > 0 {
		for _, by := range []string{"zone", "model", "label:floor", "all"} {
			if k.random.IntN(3) == 0 {
				r.GroupBy = append(r.GroupBy, by)
			}
		}
	}
	if len(r.GroupBy) > 0 {
		r.GroupAggregate = pick(k, "", "avg", "min", "max", "sum", "count")
	}
	n := int((q.end-q.start)/q.step) + 1
	want, order, units, refused := map[string][][]float64{}, []string{}, map[string]string{}, false
	for _, w := range k.twins {
		values := q.values(w, n)
		if !chosen(w) || !slices.ContainsFunc(values, func(v float64) bool { return !math.IsNaN(v) }) {
			continue
		}
		name := w.id
		if len(r.GroupBy) > 0 {
			name = ""
			for _, by := range r.GroupBy {
				name += keys[by](w) + " "
			}
		}
		unit := q.unit
		if q.property == "temperature" && unit == "" && q.aggregate != "count" {
			unit = w.unit
		}
		if was, there := units[name]; there && was != unit && r.GroupAggregate != "count" {
			refused = true
		}
		refused = refused || q.refusesSum(w)
		if want[name] == nil {
			order = append(order, name)
		}
		units[name], want[name] = unit, append(want[name], fillIn(values, q.fill))
	}
	res, err := rpcv1.NewHistoryServiceClient(k.h.http(k.h.admin), k.h.url).QuerySeries(t.Context(), req(r))
	if refused {
		if connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: %v", r, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("%v: %v", r, err)
	}
	if at := q.end - int64(n-1)*q.step; res.Msg.Start.AsTime().UnixMilli() != at {
		t.Errorf("%v: starts at %v, want %d", r, res.Msg.Start, at)
	}
	if slices.Sort(order); len(res.Msg.Series) != len(order) {
		t.Fatalf("%v: %d series, want %q", r, len(res.Msg.Series), order)
	}
	for i, s := range res.Msg.Series {
		name := s.Twin
		for _, by := range r.GroupBy {
			name += s.Group[by] + " "
		}
		if name != order[i] || len(s.Values) != n || len(r.GroupBy) > 0 && int(s.Twins) != len(want[name]) {
			t.Fatalf("%v: %q of %d twins, %d values, want %q of %d, %d", r, name, s.Twins, len(s.Values), order[i], len(want[name]), n)
		}
		for step, got := range s.Values {
			if value := together(want[name], step, r.GroupAggregate); !alike(got, value, got) {
				t.Errorf("%v: %s at step %d of %d: %v, want %v", r, name, step, n, got, value)
			}
		}
	}
}

// together computes a group's value of a step.
func together(all [][]float64, step int, aggregate string) float64 {
	var of []knownPoint
	for _, values := range all {
		if v := values[step]; !math.IsNaN(v) {
			of = append(of, knownPoint{0, v})
		}
	}
	if len(of) == 0 && aggregate != "count" {
		return math.NaN()
	}
	if len(of) == 0 {
		return 0
	}
	return schoolbook(aggregate, of, nil, 1)
}
