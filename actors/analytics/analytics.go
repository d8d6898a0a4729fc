// Package analytics judges series of readings as they come: what is usual of them, and what is not. It is arithmetic only: it
// knows no twins, no store and no clock, so the same code judges live readings and those of history. A model has a bounded size,
// whatever it has seen, and can be written down and read again at any reading.
package analytics

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Kind of a detector.
type Kind uint8

// The kinds. Their values are in records and do not change.
const (
	// Statistics are the mean, deviation, extremes and slope over a moving window. They judge nothing.
	Statistics Kind = 1
	// EWMA compares a reading with the exponentially weighted mean of those before it: spikes and steps.
	EWMA Kind = 2
	// Seasonal compares with what was usual at that hour of the week: a reading that is right, at the wrong time.
	Seasonal Kind = 3
	// Shift finds that the level has changed, also by less than the noise: a cumulative sum.
	Shift Kind = 4
	// Stuck finds readings that go on to come and do not change any more.
	Stuck Kind = 5
	// Missing finds readings that do not come any more.
	Missing Kind = 6
	// Module is judged by a logic, elsewhere; this package only knows its settings.
	Module Kind = 7
)

var kindNames = map[Kind]string{Statistics: "statistics", EWMA: "ewma", Seasonal: "seasonal", Shift: "shift", Stuck: "stuck", Missing: "missing",
	Module: "module"}

// String is the kind's name in commands and properties.
func (k Kind) String() string { return kindNames[k] }

// Kinds that this package judges by, in their order.
func Kinds() []Kind { return []Kind{Statistics, EWMA, Seasonal, Shift, Stuck, Missing} }

// Settings of a detector. What is zero has a default, see Complete.
type Settings struct {
	Kind Kind
	// Threshold from which on a score is an anomaly.
	Threshold float64
	// Window is what statistics are over, or the time after which a series is stuck or missing; 0: that is learned.
	Window time.Duration
	// Readings that ewma remembers, and that shift learns a level from.
	Readings int
	// Tolerance is by how much readings may differ and are still the same, in the unit of the readings. The smallest step that
	// was seen counts in any case.
	Tolerance float64
	// Zone whose hours count; nil: UTC.
	Zone *time.Location
}

// Bounds of settings.
const (
	MaxWindow   = 31 * 24 * time.Hour
	MaxReadings = 10_000
)

// FieldError says which setting is wrong and why.
type FieldError struct{ Field, Reason string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

// uses are the settings that a kind has besides the threshold.
var uses = map[Kind][]string{Statistics: {"window"}, EWMA: {"readings", "tolerance"}, Seasonal: {"time_zone", "tolerance"},
	Shift: {"readings", "tolerance"}, Stuck: {"window", "tolerance"}, Missing: {"window"}, Module: {}}

// Complete checks settings and fills in the defaults. A setting that the kind does not use is refused.
func (s Settings) Complete() (Settings, error) {
	if s.Kind.String() == "" {
		return s, &FieldError{"kind", fmt.Sprintf("%d is none", s.Kind)}
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"window", s.Window != 0}, {"readings", s.Readings != 0}, {"tolerance", s.Tolerance != 0}, {"time_zone", s.Zone != nil}} {
		if f.set && !slices.Contains(uses[s.Kind], f.name) {
			return s, &FieldError{f.name, fmt.Sprintf("is nothing that kind %s uses; it uses threshold%s", s.Kind, listed(uses[s.Kind]))}
		}
	}
	switch {
	case s.Kind == Statistics && s.Threshold != 0:
		return s, &FieldError{"threshold", "is nothing that kind statistics uses: it judges nothing"}
	case s.Threshold < 0 || math.IsNaN(s.Threshold) || s.Threshold > 1e6:
		return s, &FieldError{"threshold", "must be more than 0, and no more than 1,000,000"}
	case s.Window < 0 || s.Window > MaxWindow || s.Window > 0 && s.Window < time.Second:
		return s, &FieldError{"window", fmt.Sprintf("%s is not between 1s and %s", s.Window, MaxWindow)}
	case s.Readings < 0 || s.Readings > MaxReadings || s.Readings > 0 && s.Readings < 4:
		return s, &FieldError{"readings", fmt.Sprintf("%d is not between 4 and %d", s.Readings, MaxReadings)}
	case s.Tolerance < 0 || math.IsNaN(s.Tolerance) || math.IsInf(s.Tolerance, 0):
		return s, &FieldError{"tolerance", "must not be less than 0"}
	}
	d := map[Kind]Settings{Statistics: {Window: time.Hour}, EWMA: {Threshold: 6, Readings: 12}, Seasonal: {Threshold: 4, Zone: time.UTC},
		Shift: {Threshold: 12, Readings: 100}, Stuck: {Threshold: 1}, Missing: {Threshold: 1}, Module: {Threshold: 1}}[s.Kind]
	if s.Threshold == 0 {
		s.Threshold = d.Threshold
	}
	if s.Window == 0 {
		s.Window = d.Window
	}
	if s.Readings == 0 {
		s.Readings = d.Readings
	}
	if s.Zone == nil {
		s.Zone = d.Zone
	}
	return s, nil
}

func listed(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ", " + strings.Join(names, ", ")
}

// Verdict is what a model says of a reading, or of the time since the last one.
type Verdict struct {
	// Ready: it has learned enough to judge. Nothing else holds before that.
	Ready   bool
	Anomaly bool
	// Score is how unusual it is, in the kind's own measure: from the threshold on it is an anomaly.
	Score float64
	// Expected is what it would have thought usual, of the kinds that think of a value.
	Expected float64
	// Of statistics: over the window; the rate is per second.
	Mean, SD, Min, Max, Rate float64
}

// Output is a property that a verdict becomes: its name is the detector's output, `_` and this.
type Output string

// The outputs.
const (
	OutputScore    Output = "score"
	OutputAnomaly  Output = "anomaly"
	OutputExpected Output = "expected"
	OutputMean     Output = "mean"
	OutputSD       Output = "sd"
	OutputMin      Output = "min"
	OutputMax      Output = "max"
	OutputRate     Output = "rate"
)

// Outputs of a kind, in their order.
func (k Kind) Outputs() []Output {
	switch k {
	case Statistics:
		return []Output{OutputMean, OutputSD, OutputMin, OutputMax, OutputRate}
	case EWMA, Seasonal, Shift, Module:
		return []Output{OutputScore, OutputAnomaly, OutputExpected}
	}
	return []Output{OutputScore, OutputAnomaly}
}

// Number gives an output that is a number, rounded to what is worth telling: scores to a hundredth, all else to six digits.
func (v *Verdict) Number(o Output) float64 {
	switch o {
	case OutputScore:
		return math.Round(min(v.Score, 1e9)*100) / 100
	case OutputExpected:
		return digits(v.Expected)
	case OutputMean:
		return digits(v.Mean)
	case OutputSD:
		return digits(v.SD)
	case OutputMin:
		return v.Min
	case OutputMax:
		return v.Max
	case OutputRate:
		return digits(v.Rate)
	}
	return 0
}

// digits rounds to six significant ones.
func digits(x float64) float64 {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return x
	}
	scale := math.Pow(10, 5-math.Floor(math.Log10(math.Abs(x))))
	if math.IsInf(scale, 0) || scale == 0 {
		return x
	}
	return math.Round(x*scale) / scale
}

// model is what a kind has learned of one series.
type model interface {
	// observe takes a reading. at is in milliseconds since 1970, and may be earlier than the last one by a bad clock.
	observe(at int64, x float64) Verdict
	// due is when to ask although nothing was read, in milliseconds since 1970; 0: never. elapse is what there is to say then.
	due() int64
	elapse(now int64) Verdict
	// code writes or reads what changes with each reading, codeLong what does rarely; changes counts those of the latter.
	code(c *coder)
	codeLong(c *coder)
	changes() uint32
}

// Series is one series under one detector. It is not safe for concurrent use.
type Series struct {
	settings Settings
	model    model
	seen     uint64
	at       int64
	last     Verdict
}

// New begins a series. The settings must be complete, and their kind one of Kinds.
func New(s Settings) *Series {
	x := &Series{settings: s}
	switch s.Kind {
	case Statistics:
		x.model = newStatistics(s)
	case EWMA:
		x.model = &ewma{settings: s}
	case Seasonal:
		x.model = newSeasonal(s)
	case Shift:
		x.model = &shift{settings: s}
	case Stuck:
		x.model = &stuck{settings: s}
	case Missing:
		x.model = &missing{settings: s}
	default:
		return nil
	}
	return x
}

// Observe takes a reading and judges it by those before it. at is in milliseconds since 1970. What is no number is passed over.
func (x *Series) Observe(at int64, value float64) Verdict {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return x.last
	}
	x.seen++
	x.at = at
	x.last = x.model.observe(at, value)
	return x.last
}

// Due is when the series wants to be asked by Elapse although nothing was read, in milliseconds since 1970; 0: never.
func (x *Series) Due() int64 { return x.model.due() }

// Elapse judges that nothing was read until now.
func (x *Series) Elapse(now int64) Verdict {
	x.last = x.model.elapse(now)
	return x.last
}

// At is the time of the last reading in milliseconds since 1970, 0 before the first.
func (x *Series) At() int64 { return x.at }

// Seen is how many readings it has learned from.
func (x *Series) Seen() uint64 { return x.seen }

// Last is the last verdict.
func (x *Series) Last() Verdict { return x.last }

// Changes counts the changes of what AppendLong writes.
func (x *Series) Changes() uint32 { return x.model.changes() }

// scale holds the least difference between readings that has been seen: a sensor's step, below which it says nothing.
type scale struct {
	previous, step float64
	some           bool
}

// see takes a reading.
func (s *scale) see(x float64) {
	if d := math.Abs(x - s.previous); s.some && d > 0 && (s.step == 0 || d < s.step) {
		s.step = d
	}
	s.previous, s.some = x, true
}

// floor is the least deviation that is taken for real.
func (s *scale) floor(tolerance float64) float64 {
	return max(tolerance, s.step/2, 1e-9*math.Abs(s.previous), 1e-12)
}

func (s *scale) code(c *coder) {
	c.float(&s.previous)
	c.float(&s.step)
	c.bool(&s.some)
}

func clamp(x, limit float64) float64 { return max(-limit, min(limit, x)) }
