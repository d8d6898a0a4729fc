package actors

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// Bounds of what a driver may make a twin keep, so that its record fits a transaction.
const (
	maxProperties = 512
	maxValue      = 16 << 10
	// maxRecord bounds the twin's whole record. With the model's patch and maxCargo it fits one transaction of the store, 448 KiB.
	maxRecord = 240 << 10
	maxMemory = 128 << 10
	maxPatch  = 64 << 10
	maxTimers = 64
	// maxBurst in milliseconds is how far values that arrive within one millisecond are spread into the future.
	maxBurst     = 1000
	maxTimerData = 4 << 10
	maxEvents    = 256
	// maxSamples bounds the samples of one transaction, in bytes as sampleSize counts them.
	maxSamples = 64 << 10
)

// apply makes the effects of an event's call the twin's state: all of them, but for what is wrongly typed, or none.
func (t *twin) apply(v *event, eff *drivers.Effects) error {
	if len(eff.Changes) == 0 && eff.Memory == nil && len(eff.Events) == 0 && len(eff.Timers) == 0 && eff.Describe == nil &&
		len(eff.Discovered) == 0 && len(eff.Subscriptions) == 0 {
		return nil
	}
	model, patch, err := t.described(eff.Describe)
	if err != nil {
		return err
	}
	misfits := takeMisfits(eff, cmp.Or(model, t.model))
	values := make([]state.Value, len(eff.Changes))
	if err := t.checkEffects(eff, values); err != nil {
		return err
	}
	subscriptions, err := t.checkSubscriptions(eff.Subscriptions)
	if err != nil {
		return err
	}
	if model != nil {
		t.model, t.patch, t.patchDirty = model, patch, true
		t.changed()
	}
	t.listMisfits(v, misfits)
	t.setTimers(eff.Timers)
	t.subscribe(subscriptions)
	if eff.Memory != nil && string(eff.Memory) != t.st.Memory {
		t.st.Memory = string(eff.Memory)
		t.soil()
	}
	if v.historical {
		t.past(eff.Changes, values)
	} else {
		t.report(eff.Changes, values, nil)
	}
	for _, ev := range eff.Events {
		t.e.stats.event()
		t.emitEvent(ev)
		t.sayEvent(ev)
		t.journalEvent(ev)
	}
	if len(eff.Discovered) > 0 {
		t.discover(eff.Discovered)
	}
	return nil
}

// checkEffects reads the values, and says why the effects cannot be applied.
func (t *twin) checkEffects(eff *drivers.Effects, values []state.Value) error {
	grown, fresh := max(0, len(eff.Memory)-len(t.st.Memory)), 0
	for i, c := range eff.Changes {
		v, err := state.ParseValue(c.Value)
		switch {
		case err != nil:
			return fmt.Errorf("property %s: %w", c.Property, err)
		case c.Property == "" || len(c.Property) > 128:
			return fmt.Errorf("property %.140q: 1 to 128 bytes are allowed", c.Property)
		case v.Size() > maxValue:
			return fmt.Errorf("property %s: a value of %d bytes, %d are allowed", c.Property, v.Size(), maxValue)
		}
		values[i] = v
		grown += v.Size() + len(c.Property)
		if t.st.Named(c.Property) == nil {
			fresh++
		}
	}
	for i := range eff.Timers {
		grown += len(eff.Timers[i].Name) + len(eff.Timers[i].Data)
	}
	for i := range eff.Subscriptions {
		s := &eff.Subscriptions[i]
		grown += len(s.Twin) + len(s.System) + len(s.Property)
	}
	switch {
	case fresh+len(t.st.Properties) > maxProperties:
		return fmt.Errorf("more than %d properties", maxProperties)
	case t.st.Size()+grown > maxRecord:
		return fmt.Errorf("a state of more than %d bytes", maxRecord)
	case len(eff.Memory) > maxMemory:
		return fmt.Errorf("memory of %d bytes, %d are allowed", len(eff.Memory), maxMemory)
	case eff.Memory != nil && !json.Valid(eff.Memory):
		return errors.New("memory is no JSON")
	case len(eff.Events) > maxEvents:
		return fmt.Errorf("more than %d events in a call", maxEvents)
	}
	return t.checkTimers(eff.Timers)
}

// report takes the changes of properties. ways say where each goes; nil: everywhere.
func (t *twin) report(changes []drivers.Change, values []state.Value, ways []way) {
	if len(changes) == 0 {
		return
	}
	var delta *pb.StateDelta
	if len(t.watchers()) > 0 {
		delta = &pb.StateDelta{Properties: make(map[string]*pb.Property, len(changes))}
	}
	t.makeRoom(changes)
	now := t.stamp()
	any := false
	var judged verdicts
	for i, c := range changes {
		at := c.Time
		if at <= 0 || at > now+24*3600*1000 {
			at = now
		}
		to := everywhere
		if ways != nil {
			to = ways[i]
		}
		if to == toHistory {
			t.sampleOf(c.Property, values[i], at)
			continue
		}
		before := t.before(c.Property)
		t.observed(&judged, &c, values[i], at)
		if p := t.setProperty(c, values[i], at, to); p != nil {
			any = true
			t.reported(p)
			t.say(said{kind: "property", name: c.Property, value: p.Value, previous: before, at: p.Time()})
			if delta != nil {
				delta.Properties[c.Property] = p.Proto(t.live())
			}
		}
	}
	if t.confirm(changes, ways, delta) || any { // a value that was asked for may have been there all the time
		t.changed()
		if delta != nil {
			t.emitDelta(delta)
		}
	}
	t.takeVerdicts(&judged)
}

// before is what a property was, where routes or rules want to know.
func (t *twin) before(property string) (v state.Value) {
	if t.e.routes.count.Load() > 0 || t.e.rules.Count.Load() > 0 {
		if p := t.st.Named(property); p != nil {
			v = p.Value
		}
	}
	return v
}

// makeRoom grows the list of properties by exactly what is new: there are many twins, and few grow often. A list that a running
// call reads is left to it.
func (t *twin) makeRoom(changes []drivers.Change) {
	fresh := 0
	for _, c := range changes {
		if t.st.Named(c.Property) == nil {
			fresh++
		}
	}
	if have := len(t.st.Properties); have+fresh > cap(t.st.Properties) || t.lent {
		bigger := make([]state.Property, have, have+fresh)
		copy(bigger, t.st.Properties)
		t.st.Properties, t.lent = bigger, false
	}
}

// setProperty gives the property if that is a change, else nil. A value that is told again counts once a minute, so
// that history shows it going on.
func (t *twin) setProperty(c drivers.Change, v state.Value, at int64, to way) *state.Property {
	q := uint8(c.Quality)
	if q == 0 {
		q = uint8(drivers.QualityGood)
	}
	p := t.st.Named(c.Property)
	if p == nil {
		t.st.Properties = append(t.st.Properties, state.Property{Name: state.Intern(c.Property)})
		p = &t.st.Properties[len(t.st.Properties)-1]
	} else if repeats(p, v, q, at) && !(to == everywhere && t.owes(p.Name)) {
		p.Stamp = state.At(max(p.Time(), at), q)
		t.touched = true
		return nil
	}
	if c.Time <= 0 && at <= p.Time() && p.Time()-at < maxBurst {
		at = p.Time() + 1 // history holds one sample of a series per millisecond
	}
	if q != p.Quality() && (p.Quality() != 0 || q != uint8(drivers.QualityGood)) {
		t.journalQuality(c.Property, q, at)
	}
	told := p.Time() != 0 && p.Value.Equal(v)
	p.Value, p.Stamp = v, state.At(at, q)
	switch _, number := point(v); {
	case to != everywhere:
		if !told {
			t.owe(p.Name)
		}
	case number || !told || t.owes(p.Name): // the journal needs no text twice
		t.sampleOf(c.Property, v, at)
		t.paid(p.Name)
	}
	return p
}

// repeats says whether a value is what is known, told once more within the minute.
func repeats(p *state.Property, v state.Value, q uint8, at int64) bool {
	return p.Value.Equal(v) && p.Quality() == q && at/60_000 == p.Time()/60_000
}

// maxPoint is up to where whole numbers are exact (2^53).
const maxPoint = 1 << 53

// point gives what history keeps of a value: a number or a boolean. What is none is in the journal, and so is a number beyond maxPoint:
// the samples of a block of VictoriaMetrics have one exponent, so that beside the 3.4e38 that a device says once for nonsense those of days
// would be 0. Beside maxPoint they keep three decimals.
func point(v state.Value) (float64, bool) {
	x, ok := v.Sample()
	return x, ok && math.Abs(x) <= maxPoint
}

// sampleOf keeps a value: in history where it is a point, else in the journal.
func (t *twin) sampleOf(property string, v state.Value, at int64) {
	switch x, ok := point(v); {
	case ok:
		t.sample(storage.Sample{Property: property, Time: at, Value: x})
		t.soil()
	case !math.IsNaN(x):
		t.journal(journalValue, property, at, v.AppendJSON(nil))
	}
}

// sample keeps a point of history for the next checkpoint. Many of them bring it forward; what is still too much is
// dropped and counted.
func (t *twin) sample(s storage.Sample) {
	sv := t.saves()
	sv.sampleBytes += sampleSize(s)
	switch {
	case sv.sampleBytes > maxSamples:
		sv.sampleBytes -= sampleSize(s)
		sv.left(dropSamples, t)
		return
	case sv.sampleBytes > maxSamples/2:
		t.dirtyAt = 0
	}
	sv.samples = append(sv.samples, s)
}

func sampleSize(s storage.Sample) int { return len(s.Property) + 22 }

// described gives the model as a call describes it, with the patch that makes it so; nil: it is as it was.
func (t *twin) described(patch []byte) (*drivers.Model, []byte, error) {
	if t.spec == nil || patch == nil {
		return nil, nil, nil // the driver went meanwhile, or says nothing
	}
	merged, err := mergePatches(t.patch, patch)
	if err != nil {
		return nil, nil, err
	}
	if len(merged) > maxPatch {
		return nil, nil, fmt.Errorf("a model patch of %d bytes, %d are allowed", len(merged), maxPatch)
	}
	if string(merged) == string(t.patch) {
		return nil, nil, nil
	}
	m, err := t.e.catalog.patched(t.spec, merged)
	return m, merged, err
}
