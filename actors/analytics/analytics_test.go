package analytics

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func complete(t testing.TB, s Settings) Settings {
	t.Helper()
	s, err := s.Complete()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// series is a month of readings, with noise, a course of the day, gaps, the same value for a while, and times that go back.
func series(seed uint64, n int) (at []int64, x []float64) {
	r := rand.New(rand.NewPCG(seed, 1))
	now := int64(1_767_571_200_000)
	for i := range n {
		now += 200_000 + r.Int64N(200_000)
		if r.IntN(300) == 0 {
			now += 6 * 3_600_000
		}
		v := 20 + 3*math.Sin(float64(now)/86_400_000*2*math.Pi) + r.NormFloat64()
		if r.IntN(200) == 0 {
			v += 40
		}
		if i/100%10 == 9 {
			v = x[i-1]
		}
		at, x = append(at, now-int64(r.IntN(50)/49*400_000)), append(x, v)
	}
	return at, x
}

// What a series has learned can be written down at any reading: who reads it goes on to the same verdicts, by the same numbers.
func TestTrainingSurvives(t *testing.T) {
	seed := rand.Uint64()
	at, x := series(seed, 6000)
	for _, k := range Kinds() {
		s := complete(t, Settings{Kind: k})
		one, two := New(s), New(s)
		var long []byte
		most := 0
		for i := range at {
			changes := two.Changes()
			if one.Due() != two.Due() {
				t.Fatalf("%s, seed %d, reading %d: due at %d, and at %d when read again", k, seed, i, one.Due(), two.Due())
			}
			if due := one.Due(); due > 0 && due < at[i] && one.Elapse(due) != two.Elapse(due) {
				t.Fatalf("%s, seed %d, reading %d: another verdict of a gap", k, seed, i)
			}
			if a, b := one.Observe(at[i], x[i]), two.Observe(at[i], x[i]); a != b {
				t.Fatalf("%s, seed %d, reading %d: %+v, and %+v when read again", k, seed, i, a, b)
			}
			short := two.Append(nil)
			if two.Changes() != changes {
				long = two.AppendLong(nil)
			}
			most = max(most, len(short))
			if len(short) > 200 || len(long) > 2200 {
				t.Fatalf("%s takes %d and %d bytes", k, len(short), len(long))
			}
			if i%7 == 0 {
				var err error
				if two, err = Restore(s, short, long); err != nil {
					t.Fatalf("%s, reading %d: %v", k, i, err)
				}
			}
		}
		if two.Seen() != uint64(len(at)) {
			t.Errorf("%s has seen %d of %d readings", k, two.Seen(), len(at))
		}
		t.Logf("%s: %d bytes, and %d that rarely change", k, most, len(long))
	}
}

// Training of another kind, of other settings, or cut short is not taken.
func TestTrainingOfOthers(t *testing.T) {
	at, x := series(1, 500)
	for _, k := range Kinds() {
		s := complete(t, Settings{Kind: k})
		m := New(s)
		for i := range at {
			m.Observe(at[i], x[i])
		}
		short, long := m.Append(nil), m.AppendLong(nil)
		for i := range short {
			if _, err := Restore(s, short[:i], long); !errors.Is(err, ErrFormat) {
				t.Fatalf("%s: training cut at %d is taken: %v", k, i, err)
			}
		}
		if len(long) > 0 {
			if _, err := Restore(s, short, long[:len(long)-1]); !errors.Is(err, ErrFormat) {
				t.Errorf("%s: a long part that is cut is taken: %v", k, err)
			}
		}
		other := complete(t, Settings{Kind: k%6 + 1})
		if _, err := Restore(other, short, nil); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: training is taken for %s: %v", k, other.Kind, err)
		}
		if k != Statistics {
			s.Threshold++
			if _, err := Restore(s, short, long); err != nil {
				t.Errorf("%s: another threshold: %v", k, err)
			}
		}
	}
}

func FuzzRestore(f *testing.F) {
	for _, k := range Kinds() {
		s, _ := Settings{Kind: k}.Complete()
		m := New(s)
		m.Observe(1, 2)
		f.Add(byte(k), m.Append(nil), m.AppendLong(nil))
	}
	f.Fuzz(func(_ *testing.T, kind byte, short, long []byte) {
		s, err := Settings{Kind: Kind(kind)}.Complete()
		if err != nil {
			return
		}
		m, err := Restore(s, short, long)
		if err != nil {
			return
		}
		for i := range int64(20) {
			m.Observe(1_767_571_200_000+i*1_800_000, float64(i))
			m.Elapse(m.Due())
		}
		m.AppendLong(m.Append(nil))
	})
}

// Statistics are those of the readings in the window, and the slope that of the line through them.
func TestStatistics(t *testing.T) {
	s := complete(t, Settings{Kind: Statistics, Window: 32 * time.Minute})
	m := New(s)
	r := rand.New(rand.NewPCG(1, 2))
	var at, x []float64
	const begin = 1_767_571_200_000
	for i := range 4000 {
		now := begin + int64(i)*7_000
		value := 1e6 + float64(i)*0.5 + r.NormFloat64()
		v := m.Observe(now, value)
		at, x = append(at, float64(now-begin)/1000), append(x, value)
		// The window begins with the first reading of its oldest part.
		from := float64((now/60_000-31)*60_000-begin) / 1000
		for at[0] < from {
			at, x = at[1:], x[1:]
		}
		if i%97 != 0 || i < 10 {
			continue
		}
		n := float64(len(x))
		var mx, mt, xx, tt, tx float64
		least, most := x[0], x[0]
		for j := range x {
			mx, mt = mx+x[j]/n, mt+at[j]/n
			least, most = min(least, x[j]), max(most, x[j])
		}
		for j := range x {
			xx, tt, tx = xx+(x[j]-mx)*(x[j]-mx), tt+(at[j]-mt)*(at[j]-mt), tx+(at[j]-mt)*(x[j]-mx)
		}
		for _, c := range []struct{ got, want, by float64 }{{v.Mean, mx, 1e-5}, {v.SD, math.Sqrt(xx / (n - 1)), 1e-5}, {v.Min, least, 0}, {v.Max, most, 0}, {v.Rate, tx / tt, 1e-6}} {
			if math.Abs(c.got-c.want) > c.by {
				t.Fatalf("reading %d, %d in the window: %+v; %v should be %v", i, len(x), v, c.got, c.want)
			}
		}
	}
}

// A gap is found when it is long enough, once, and is over with the next reading.
func TestMissing(t *testing.T) {
	m := New(complete(t, Settings{Kind: Missing}))
	at := int64(1_767_571_200_000)
	for i := range 50 {
		if v := m.Observe(at, 1); v.Anomaly {
			t.Fatalf("reading %d is missing", i)
		}
		at += 10_000
	}
	last := at - 10_000
	due := m.Due()
	if due < last+20_000 || due > last+60_000 {
		t.Fatalf("of readings each 10 s the next is missing after %d ms", due-last)
	}
	if v := m.Elapse(due - 1); v.Anomaly {
		t.Errorf("missing too early: %+v", v)
	}
	if v := m.Elapse(due); !v.Anomaly || !v.Ready || v.Score < 1 {
		t.Errorf("nothing is missing when it is due: %+v", v)
	}
	if m.Due() != 0 {
		t.Error("it is told again")
	}
	if v := m.Observe(at+3_600_000, 1); v.Anomaly || m.Due() == 0 {
		t.Errorf("it does not end: %+v", v)
	}
	w := New(complete(t, Settings{Kind: Missing, Window: time.Minute}))
	if w.Due() != 0 {
		t.Error("a series that never began is missing")
	}
	w.Observe(last, 1)
	if w.Due() != last+60_000 {
		t.Errorf("with a window of a minute it is due after %d ms", w.Due()-last)
	}
}

// The hours of a week are those of the place, also where the clocks change: there the series is the same by the wall clock.
func TestSeasonalFollowsTheClock(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	m := New(complete(t, Settings{Kind: Seasonal, Zone: zone}))
	r := rand.New(rand.NewPCG(3, 4))
	from := time.Date(2026, 3, 2, 0, 0, 0, 0, zone) // four weeks before summer time begins
	judged, wrong := 0, 0
	for at := from; at.Before(from.AddDate(0, 0, 42)); at = at.Add(10 * time.Minute) {
		x := 15 + 0.2*r.NormFloat64()
		if h := at.In(zone).Hour(); h >= 8 && h < 18 {
			x += 6
		}
		v := m.Observe(at.UnixMilli(), x)
		if v.Ready {
			judged++
		}
		if v.Anomaly {
			wrong++
		}
	}
	if judged < 4000 || wrong > 10 {
		t.Errorf("%d of %d judged readings are anomalies", wrong, judged)
	}
}

func TestSettings(t *testing.T) {
	for _, c := range []struct {
		s     Settings
		field string
	}{
		{Settings{}, "kind"}, {Settings{Kind: 99}, "kind"},
		{Settings{Kind: EWMA, Window: time.Hour}, "window"}, {Settings{Kind: Stuck, Readings: 5}, "readings"},
		{Settings{Kind: Statistics, Threshold: 3}, "threshold"}, {Settings{Kind: EWMA, Threshold: -1}, "threshold"},
		{Settings{Kind: EWMA, Threshold: math.NaN()}, "threshold"}, {Settings{Kind: Missing, Tolerance: 1}, "tolerance"},
		{Settings{Kind: Statistics, Window: time.Millisecond}, "window"}, {Settings{Kind: Shift, Readings: 2}, "readings"},
		{Settings{Kind: EWMA, Tolerance: math.Inf(1)}, "tolerance"}, {Settings{Kind: EWMA, Zone: time.UTC}, "time_zone"},
	} {
		_, err := c.s.Complete()
		var bad *FieldError
		if !errors.As(err, &bad) || bad.Field != c.field {
			t.Errorf("%+v: %v, want one of %s", c.s, err, c.field)
		}
	}
	for _, k := range Kinds() {
		complete(t, complete(t, Settings{Kind: k})) // what is complete stays so
	}
}

func BenchmarkObserve(b *testing.B) {
	at, x := series(1, 4096)
	for _, k := range Kinds() {
		b.Run(k.String(), func(b *testing.B) {
			m := New(complete(b, Settings{Kind: k}))
			b.ReportAllocs()
			var by int64
			for i := 0; b.Loop(); i++ {
				if i%len(at) == 0 {
					by += 4096 * 300_000
				}
				m.Observe(at[i%len(at)]+by, x[i%len(at)])
			}
		})
	}
}

// A device that was missing, and speaks again by a clock that was put back, is missing again when it falls silent.
func TestMissingAgainByAnotherClock(t *testing.T) {
	settings, err := Settings{Kind: Missing, Window: time.Minute}.Complete()
	if err != nil {
		t.Fatal(err)
	}
	s := New(settings)
	const hour = 3_600_000
	s.Observe(10*hour, 1)
	if v := s.Elapse(10*hour + 60_000); !v.Anomaly || s.Due() != 0 {
		t.Errorf("%v", v)
	}
	if v := s.Observe(9*hour, 1); v.Anomaly || s.Due() != 9*hour+60_000 {
		t.Errorf("%v, due at %d", v, s.Due())
	}
}
