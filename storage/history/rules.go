package history

import (
	"regexp"
	"strconv"
	"time"
)

// SampleRule says how long the samples of some properties are kept.
type SampleRule struct {
	// Model is the label of the series, or one of ModelsOf it; Property the property's name; empty: all.
	Model, Property string
	// MaxAge of the samples; at least MinSampleAge.
	MaxAge time.Duration
	// Step, where not 0, makes aggregates of the samples that go, one of each step. At most MaxAge, at least MinStep.
	Step time.Duration
	// StepMaxAge of the aggregates, above MaxAge; 0: as long as the history keeps anything.
	StepMaxAge time.Duration
}

const (
	// MinSampleAge is the shortest that samples may be kept by a rule: what is fed again after a crash is a minute old.
	MinSampleAge = time.Hour
	// MinStep is the shortest step of aggregates.
	MinStep = time.Second
)

// SampleRules of a project. The closest that fits a series counts: model and property, property, model, neither.
type SampleRules struct {
	List []SampleRule
	// ModelsOf, where not nil, gives the models that the series with a label may be of. Of their rules the one that keeps longest counts: no other
	// model's may let a sample go. None: it may be any.
	ModelsOf func(label string) []string
}

// of gives the rule of a series, where it is of a model; nil where none fits.
func (r SampleRules) of(label, model, property string) (best *SampleRule) {
	closest := -1
	for i := range r.List {
		x := &r.List[i]
		if x.Model != "" && x.Model != model && x.Model != label || x.Property != "" && x.Property != property {
			continue
		}
		fit := 0
		if x.Property != "" {
			fit += 2
		}
		if x.Model != "" {
			fit++
		}
		if fit > closest {
			best, closest = x, fit
		}
	}
	return best
}

// models that a series may be of.
func (r SampleRules) models(label string) []string {
	if r.ModelsOf == nil {
		return []string{label}
	}
	all := r.ModelsOf(label)
	if len(all) == 0 {
		all = []string{label}
		for _, x := range r.List {
			all = append(all, x.Model)
		}
	}
	return all
}

// ageOf is how long a series is kept by the rules, and the step of what is made of it then, 0 for none; ok is false where no rule is
// for it.
func (r SampleRules) ageOf(label, property string) (age, step time.Duration, ok bool) {
	for _, model := range r.models(label) {
		a, s, ok := r.ageOfModel(label, model, property)
		if !ok {
			return 0, 0, false
		}
		if a > age || a == age && step == 0 {
			age, step = a, s
		}
	}
	return age, step, true
}

// ageOfModel is ageOf where the series is of a model.
func (r SampleRules) ageOfModel(label, model, property string) (age, step time.Duration, ok bool) {
	base, _, rolled := rolledProperty(property)
	rule := r.of(label, model, base)
	switch {
	case rule == nil:
		return 0, 0, false
	case !rolled:
		return rule.MaxAge, rule.Step, true
	case rule.Step == 0:
		return rule.MaxAge, 0, true
	}
	return rule.StepMaxAge, 0, rule.StepMaxAge > 0
}

// Aggregates of samples that went are series too, of a property of their own: NAME/STEP/KIND, such as temperature/5m/max. Each
// sample of one is of the raw samples of one step, and has the time of the last of them, that of a first the time of the first. So two parts of a step, as where a sample
// came late, are two samples, and whoever adds them up has all of it.
const (
	rolledCount = iota
	rolledSum
	rolledMin
	rolledMax
	rolledFirst
	rolledLast
	rolledDev
	rolledKinds
)

var rolledNames = [rolledKinds]string{"count", "sum", "min", "max", "first", "last", "dev"}

var rolledPattern = regexp.MustCompile(`^(.+)/([0-9]+(?:ms|s|m|h|d))/(count|sum|min|max|first|last|dev)$`)

// rolledProperty splits the property of aggregates.
func rolledProperty(property string) (base, kind string, ok bool) {
	m := rolledPattern.FindStringSubmatch(property)
	if m == nil {
		return property, "", false
	}
	return m[1], m[3], true
}

func rolledName(property string, step time.Duration, kind int) string {
	return property + "/" + stepText(step) + "/" + rolledNames[kind]
}

// stepText writes a span in its largest whole unit.
func stepText(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d >= u.of && d%u.of == 0 {
			return strconv.FormatInt(int64(d/u.of), 10) + u.name
		}
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

// roller makes aggregates of the samples of one series, given in the order of time.
type roller struct {
	step   int64
	have   bool
	end    int64 // of the step that is gathered
	first  int64 // time of its first sample
	at     int64 // and of its last
	values [rolledKinds]float64
	spread moments
}

// add takes a sample, and gives what is whole to emit: the property, the time and the value of each of the kinds.
func (r *roller) add(at int64, v float64, emit func(kind int, at int64, v float64)) {
	// Steps end at whole multiples, so that each node makes the same of the same samples. As in queries their end is theirs.
	if r.have && at > r.end {
		r.flush(emit)
	}
	if !r.have {
		r.have, r.first, r.end = true, at, at+(r.step-at%r.step)%r.step
		r.values, r.spread = [rolledKinds]float64{rolledMin: v, rolledMax: v, rolledFirst: v}, moments{}
	}
	r.at = at
	r.values[rolledCount]++
	r.values[rolledSum] += v
	r.values[rolledMin] = min(r.values[rolledMin], v)
	r.values[rolledMax] = max(r.values[rolledMax], v)
	r.values[rolledLast] = v
	r.spread.join(1, v, 0)
}

func (r *roller) flush(emit func(kind int, at int64, v float64)) {
	if !r.have {
		return
	}
	r.values[rolledDev] = r.spread.dev()
	for kind, v := range r.values {
		at := r.at
		if kind == rolledFirst {
			at = r.first // of two parts of a step the one counts that began earlier
		}
		emit(kind, at, v)
	}
	r.have = false
}
