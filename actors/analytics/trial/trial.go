// Package trial shows what the detectors of package analytics find: on series that are generated from a seed, with anomalies whose
// times are known, beside a plain three-sigma detector.
package trial

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/polluxhq/pollux/actors/analytics"
)

// Reading of a series.
type Reading struct {
	At    int64 // milliseconds since 1970
	Value float64
}

// Span of an anomaly, both ends included, in milliseconds since 1970.
type Span struct{ From, To int64 }

// Series is generated: readings in their order, and what is unusual of them.
type Series struct {
	Readings  []Reading
	Anomalies []Span
	// Every is the usual distance of readings in milliseconds.
	Every int64
}

// start is a Monday.
const start = 1_767_571_200_000

// generator draws a series.
type generator struct {
	*rand.Rand
	s    *Series
	held float64 // of the coloured noise
}

// noise is coloured: each is a part of the one before, with deviation sd.
func (g *generator) noise(part, sd float64) float64 {
	g.held = part*g.held + math.Sqrt(1-part*part)*g.NormFloat64()
	return sd * g.held
}

// hourOf a time, with fractions.
func hourOf(at int64) float64 { return math.Mod(float64(at-start)/3_600_000, 24) }

func dayOf(at int64) int { return int((at - start) / 86_400_000 % 7) }

// daily is a day's course of an amplitude, warmest at 15 h.
func daily(at int64, amplitude float64) float64 {
	return amplitude * math.Cos((hourOf(at)-15)/24*2*math.Pi)
}

// Generate gives a series with the kind's own anomalies.
func Generate(kind analytics.Kind, seed uint64) *Series {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, uint64(kind))), s: &Series{}}
	switch kind {
	case analytics.EWMA:
		g.spikes()
	case analytics.Seasonal:
		g.office()
	case analytics.Shift:
		g.levels()
	case analytics.Stuck:
		g.frozen()
	case analytics.Missing:
		g.gaps()
	default:
		panic(fmt.Sprintf("trial: no series for kind %s", kind))
	}
	return g.s
}

// spans draws n spans of so many readings among those from first to last, apart from each other.
func (g *generator) spans(n, first, last, shortest, longest int) [][2]int {
	var all [][2]int
	room := (last - first) / n
	for i := range n {
		long := shortest
		if longest > shortest {
			long += g.IntN(longest - shortest)
		}
		from := first + i*room + g.IntN(max(1, room-2*long))
		all = append(all, [2]int{from, from + long})
	}
	return all
}

func (g *generator) mark(from, to int) {
	g.s.Anomalies = append(g.s.Anomalies, Span{g.s.Readings[from].At, g.s.Readings[to].At})
}

// readings makes n of them, every so often with some jitter.
func (g *generator) readings(n int, every time.Duration, value func(at int64) float64) {
	g.s.Every = every.Milliseconds()
	for i := range n {
		at := start + int64(i)*g.s.Every + int64(g.Float64()*0.1*float64(g.s.Every))
		g.s.Readings = append(g.s.Readings, Reading{at, value(at)})
	}
}

// spikes: outdoor temperature for two weeks, a reading a minute, with a course of the day, weather and noise. Some readings, one to
// three in a row, are off by 6 to 14 times the noise, which is less than the day's course.
func (g *generator) spikes() {
	amplitude, sd := 4+3*g.Float64(), 0.2+0.1*g.Float64()
	weather := 0.0
	g.readings(14*1440, time.Minute, func(at int64) float64 {
		weather += 0.01*g.NormFloat64() - 0.0005*weather
		return 12 + daily(at, amplitude) + weather + g.noise(0.3, sd)
	})
	for _, x := range g.spans(20, 1440, 14*1440, 1, 3) {
		by := sd * (6 + 8*g.Float64())
		if g.IntN(2) == 0 {
			by = -by
		}
		for i := x[0]; i <= x[1]-1; i++ {
			g.s.Readings[i].Value += by
		}
		g.mark(x[0], x[1]-1)
	}
}

// office: a heated office for eight weeks, a reading every ten minutes: 21 °C at work, 17 else. From the fourth week on it is
// heated at some nights and weekends, or not heated at work, for two to six hours.
func (g *generator) office() {
	day, night, sd := 21+g.Float64(), 16.5+g.Float64(), 0.15+0.1*g.Float64()
	target := func(at int64) float64 {
		if h := hourOf(at); dayOf(at) < 5 && h >= 7 && h < 18 {
			return day
		}
		return night
	}
	const n, week = 8 * 1008, 1008
	wrong := make([]bool, n+1)
	spans := g.spans(20, 3*week, n-40, 12, 36)
	for _, x := range spans {
		for i := x[0]; i < x[1]; i++ {
			wrong[i] = true
		}
	}
	room, weather, i := night, 0.0, 0
	g.readings(n, 10*time.Minute, func(at int64) float64 {
		to := target(at)
		if wrong[i] {
			to = day + night - to
		}
		i++
		room += (to - room) * 0.2
		weather += 0.05*g.NormFloat64() - 0.01*weather
		return room + weather + g.noise(0.2, sd)
	})
	for _, x := range spans {
		g.mark(x[0], min(x[1]+6, n-1)) // the room takes an hour to be as usual again
	}
}

// levels: a pump's pressure for two weeks, a reading every five minutes, held at a level, with coloured noise. The level changes at
// times by 1 to 2.5 deviations, at once or within an hour or two, and stays. The change may be found within ten hours.
func (g *generator) levels() {
	const n, found = 14 * 288, 120
	sd, part := 0.05+0.05*g.Float64(), 0.3*g.Float64()
	at := map[int][2]float64{} // by how much, over how many readings
	spans := g.spans(7, 600, n-found, found, found)
	for _, x := range spans {
		by := sd * (1 + 1.5*g.Float64())
		if g.IntN(2) == 0 {
			by = -by
		}
		at[x[0]] = [2]float64{by, 1 + float64(g.IntN(2)*g.IntN(24))}
	}
	level, slope, rest, i := 4.0, 0.0, 0.0, 0
	g.readings(n, 5*time.Minute, func(int64) float64 {
		if x, ok := at[i]; ok {
			slope, rest = x[0]/x[1], x[1]
		}
		if rest > 0 {
			level, rest = level+slope, rest-1
		}
		i++
		return level + g.noise(part, sd)
	})
	for _, x := range spans {
		g.mark(x[0], x[1])
	}
}

// frozen: a temperature in tenths for two weeks, a reading a minute, with a course of the day. At times the sensor goes on to send the
// same for two to eight hours.
func (g *generator) frozen() {
	amplitude, sd := 2+2*g.Float64(), 0.08+0.1*g.Float64()
	g.readings(14*1440, time.Minute, func(at int64) float64 {
		return math.Round((20+daily(at, amplitude)+g.noise(0.5, sd))*10) / 10
	})
	for _, x := range g.spans(12, 2*1440, 14*1440-500, 120, 480) {
		for i := x[0] + 1; i <= x[1]; i++ {
			g.s.Readings[i].Value = g.s.Readings[x[0]].Value
		}
		g.mark(x[0], x[1])
	}
}

// gaps: readings a minute apart for a week, at distances that vary, of which one in a hundred is lost. At times nothing comes for
// eight minutes to two hours.
func (g *generator) gaps() {
	const every = 60_000
	g.s.Every = every
	vary := 0.05 + 0.15*g.Float64()
	at := int64(start)
	spans := g.spans(15, 600, 7*1440-200, 8, 120)
	next := 0
	for at < start+7*86_400_000 {
		if next < len(spans) && at >= start+int64(spans[next][0])*every {
			long := int64(spans[next][1]-spans[next][0]) * every
			g.s.Anomalies = append(g.s.Anomalies, Span{at, at + long})
			at += long
			next++
		}
		at += int64(every * math.Exp(vary*g.NormFloat64()))
		if g.IntN(100) > 0 {
			g.s.Readings = append(g.s.Readings, Reading{at, 20 + g.NormFloat64()})
		}
	}
}

// Detect runs a detector with its defaults over a series, and gives when it found an anomaly.
func Detect(kind analytics.Kind, s *Series) (alarms []int64) {
	settings, err := analytics.Settings{Kind: kind}.Complete()
	if err != nil {
		panic(err)
	}
	x := analytics.New(settings)
	for _, r := range s.Readings {
		if due := x.Due(); due > 0 && due < r.At && x.Elapse(due).Anomaly {
			alarms = append(alarms, due)
		}
		if x.Observe(r.At, r.Value).Anomaly {
			alarms = append(alarms, r.At)
		}
	}
	return alarms
}

// ThreeSigma is the plain detector that others have to be better than: what is more than three deviations from the mean of all readings
// so far, or of the last ones where last is more than 0. Of missing readings it judges their distances.
func ThreeSigma(kind analytics.Kind, s *Series, last int) (alarms []int64) {
	var all []float64
	var sum, squares float64
	before := int64(0)
	for i, r := range s.Readings {
		x := r.Value
		if kind == analytics.Missing {
			x = float64(r.At-before) / float64(s.Every)
			before = r.At
			if i == 0 {
				continue
			}
		}
		if n := float64(len(all)); n >= 30 {
			mean := sum / n
			if sd := math.Sqrt(max(0, squares/n-mean*mean)); math.Abs(x-mean) > 3*sd {
				alarms = append(alarms, r.At)
			}
		}
		all = append(all, x)
		sum, squares = sum+x, squares+x*x
		if last > 0 && len(all) > last {
			sum, squares = sum-all[0], squares-all[0]*all[0]
			all = all[1:]
		}
	}
	return alarms
}

// Result is how well a detector did.
type Result struct {
	Precision, Recall, F1 float64
}

// merged is how many readings apart alarms may be and are still one.
const merged = 12

// Judge compares alarms with the anomalies. Alarms that are close to each other are one, which is right if it touches an anomaly; an
// anomaly is found if an alarm touches it. Some readings behind it are of it, too.
func (s *Series) Judge(alarms []int64) Result {
	grace := 3 * s.Every
	var spans []Span
	for _, at := range alarms {
		if n := len(spans); n > 0 && at-spans[n-1].To <= merged*s.Every {
			spans[n-1].To = at
		} else {
			spans = append(spans, Span{at, at})
		}
	}
	right, found := 0, 0
	for _, a := range spans {
		for _, x := range s.Anomalies {
			if a.From <= x.To+grace && a.To >= x.From {
				right++
				break
			}
		}
	}
	for _, x := range s.Anomalies {
		for _, a := range spans {
			if a.From <= x.To+grace && a.To >= x.From {
				found++
				break
			}
		}
	}
	r := Result{Recall: float64(found) / float64(len(s.Anomalies))}
	if len(spans) > 0 {
		r.Precision = float64(right) / float64(len(spans))
	}
	if r.Precision+r.Recall > 0 {
		r.F1 = 2 * r.Precision * r.Recall / (r.Precision + r.Recall)
	}
	return r
}

// Row is how one kind did over some seeds, beside three-sigma over all readings and over those of a day.
type Row struct {
	Kind                analytics.Kind
	Detector, All, Last Result
}

// Run compares a kind over seeds.
func Run(kind analytics.Kind, seeds []uint64) Row {
	row := Row{Kind: kind}
	for _, seed := range seeds {
		s := Generate(kind, seed)
		n := float64(len(seeds))
		row.Detector.add(s.Judge(Detect(kind, s)), n)
		row.All.add(s.Judge(ThreeSigma(kind, s, 0)), n)
		row.Last.add(s.Judge(ThreeSigma(kind, s, int(86_400_000/s.Every))), n)
	}
	return row
}

func (r *Result) add(x Result, n float64) {
	r.Precision += x.Precision / n
	r.Recall += x.Recall / n
	r.F1 += x.F1 / n
}
