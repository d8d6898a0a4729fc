package actors

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/polluxhq/pollux/actors/model"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// A twin with a model and no driver has the same state, history, desired values and watchers as any other. What comes from its
// device is read by the model, and passes the model's filters.

// Why a value was not taken as it came, besides the codes of package model.
const (
	filterDeadband = "deadband"
	filterRate     = "rate"
	filterFlap     = "flap"
	filterLate     = "late"
	filterIgnored  = "ignored"
)

// absorbed is what became of a message.
type absorbed struct {
	// taken values are in the state or in history, or did not differ enough to be.
	taken int
	// ignored places of the message are none of the model's.
	ignored int
	// refused values, the first of them; beyond is how many more there are.
	refused []model.Refusal
	beyond  int
}

// intakeRoom is what a message needs while it is taken.
type intakeRoom struct {
	message model.Message
	changes []drivers.Change
	values  []state.Value
	ways    []way
}

var intakeRooms = sync.Pool{New: func() any { return &intakeRoom{} }}

func (x *intakeRoom) free() {
	x.message.Clear()
	clear(x.changes)
	clear(x.values)
	x.changes, x.values, x.ways = x.changes[:0], x.values[:0], x.ways[:0]
	if cap(x.changes) <= maxProperties {
		intakeRooms.Put(x)
	}
}

// read takes a message of the device's apart, JSON, and gives when. at is its source's time in milliseconds since 1970 where the message
// itself has none; 0: now. Only for bare twins.
func (t *twin) read(x *intakeRoom, payload []byte, at int64) (now int64) {
	now = t.stamp()
	t.spec.thing.ReadInto(&x.message, payload, at, now, t.e.messageTimes(ProjectOf(t.en.id)))
	return now
}

// take has a message that was read take effect: a historical one on history alone. What it changes is in the next transaction.
func (t *twin) take(x *intakeRoom, now int64, historical bool) absorbed {
	m := &x.message
	out := absorbed{taken: len(m.Readings), ignored: m.Ignored, refused: m.Refused, beyond: m.Beyond}
	if err := t.fits(m.Readings); err != nil {
		out.taken, out.refused = 0, append(out.refused, model.Refusal{Code: "too_large", Reason: err.Error()})
		m.Readings = m.Readings[:0]
	}
	t.filtered(filterIgnored, out.ignored)
	for _, r := range out.refused {
		t.filtered(r.Code, 1)
	}
	for i := range m.Readings {
		r := &m.Readings[i]
		w := toHistory
		if !historical {
			w = t.sift(r, now)
		}
		if w == nowhere {
			continue
		}
		x.changes = append(x.changes, drivers.Change{Property: r.Property.Name, Time: r.Time, Quality: r.Quality})
		x.values, x.ways = append(x.values, r.Value), append(x.ways, w)
	}
	t.report(x.changes, x.values, x.ways)
	return out
}

// understand takes a message that came through a door and answers it, unless there is no room for what it brings. Where some of its
// values are refused, each of them is a line in the list of refusals.
func (t *twin) understand(f *actorv1.Frame, m *call) bool {
	x := intakeRooms.Get().(*intakeRoom)
	defer x.free()
	now := t.read(x, f.Payload, f.Time)
	if !t.hasRoom(x.message.Readings) {
		return false
	}
	t.heard(f)
	a := t.take(x, now, f.Historical)
	if a.taken == 0 && len(a.refused) == 0 && a.ignored > 0 {
		a.refused = []model.Refusal{model.Nothing}
	}
	var err error
	for i, r := range a.refused {
		if i == 0 && a.taken == 0 {
			err = &frameRefusal{t.en.id, r.Code, r.Why()}
		} else {
			t.listRefusal(f, r.Code, r.Why())
		}
	}
	if a.beyond > 0 {
		t.listRefusal(f, a.refused[0].Code, fmt.Sprintf("and %d more values of the message", a.beyond))
	}
	t.took(f, m, err)
	return true
}

// fits says why readings have no room in the twin's record, or nil.
func (t *twin) fits(readings []model.Reading) error {
	if err := fitting(readings); err != nil {
		return err
	}
	grown, fresh := 0, 0
	for i := range readings {
		r := &readings[i]
		grown += r.Value.Size() + len(r.Property.Name)
		if t.st.Named(r.Property.Name) == nil {
			fresh++
		}
	}
	switch {
	case fresh+len(t.st.Properties) > maxProperties:
		return fmt.Errorf("more than %d properties", maxProperties)
	case t.st.Size()+grown > maxRecord:
		return fmt.Errorf("a state of more than %d bytes", maxRecord)
	}
	return nil
}

// way is where a value goes.
type way uint8

const (
	everywhere way = iota // to the state and to history
	toState
	toHistory
	nowhere
)

// sieve is what a twin remembers for its model's filters. It lives as long as the twin is in memory.
type sieve struct {
	counts map[string]uint64
	// sampled is when the last sample of a property with a rate went to history; flips are when it changed last.
	sampled map[state.Name]int64
	flips   map[state.Name][]int64
	// flapping are the properties that flap. Their quality does not tell: a value may be uncertain for another reason.
	flapping map[state.Name]bool
	// owed are the properties whose value is in the state and, for a rate or flapping, not in history, and when that was last so, by the node's
	// clock in milliseconds since 1970. It gets there when it is told again, or when nothing is told for long enough.
	owed map[state.Name]int64
}

func (t *twin) owes(name state.Name) bool { return t.sieve != nil && t.sieve.owed[name] != 0 }

func (t *twin) owe(name state.Name) {
	s := t.sieved()
	if s.owed == nil {
		s.owed = map[state.Name]int64{}
	}
	s.owed[name] = t.stamp()
}

func (t *twin) paid(name state.Name) {
	if t.sieve != nil {
		delete(t.sieve.owed, name)
	}
}

// nextDebt is when the next value that history is owed gets there, in milliseconds since 1970; 0: none is owed.
func (t *twin) nextDebt() int64 {
	if t.sieve == nil {
		return 0
	}
	var next int64
	for name, since := range t.sieve.owed {
		if due := since + t.patience(name); next == 0 || due < next {
			next = due
		}
	}
	return next
}

// patience is how long a property has to be silent until it is clear that no other value comes in the place of the one that a rate or
// flapping kept from history, in milliseconds.
func (t *twin) patience(name state.Name) int64 {
	if !t.spec.bare() {
		return 0
	}
	p := t.spec.thing.Of(name.Value())
	if p == nil {
		return 0
	}
	return max(p.Spacing, p.FlapWindow).Milliseconds()
}

// payDebts gives history the values that it is owed and that are the last for now: of what fell silent, and all of them before the twin goes.
func (t *twin) payDebts(now int64) {
	if t.sieve == nil || len(t.sieve.owed) == 0 {
		return
	}
	all := t.mode == modeLeaving || t.passive(now)
	for name, since := range t.sieve.owed {
		p := t.st.Named(name.Value())
		if !all && p != nil && since+t.patience(name) > t.stamp() {
			continue
		}
		t.paid(name)
		if p == nil {
			continue
		}
		t.sampleOf(name.Value(), p.Value, p.Time())
		if _, rated := t.sieve.sampled[name]; rated {
			t.sieve.sampled[name] = p.Time()
		}
	}
}

// proto gives the counts for the API.
func (s *sieve) proto() map[string]uint64 {
	if s == nil {
		return nil
	}
	return maps.Clone(s.counts)
}

// filtered counts what was not taken as it came.
func (t *twin) filtered(why string, n int) {
	if n == 0 {
		return
	}
	s := t.sieved()
	if s.counts == nil {
		s.counts = map[string]uint64{}
	}
	s.counts[why] += uint64(n)
	t.e.stats.filtered(why, n)
}

func (t *twin) sieved() *sieve {
	if t.sieve == nil {
		t.sieve = &sieve{}
	}
	return t.sieve
}

// sift says where a reading goes. The current value only moves forward in its source's time.
func (t *twin) sift(r *model.Reading, now int64) way {
	at := r.Time
	if at == 0 {
		at = now
	}
	p := t.st.Named(r.Property.Name)
	if p != nil && r.Time != 0 && r.Time < p.Time() {
		t.filtered(filterLate, 1)
		return toHistory
	}
	if p != nil && t.within(r, p) {
		t.filtered(filterDeadband, 1)
		p.Stamp = state.At(max(p.Time(), at), p.Quality()) // it is not stale
		t.touched = true
		return nowhere
	}
	if t.flaps(r, p, at) {
		t.filtered(filterFlap, 1)
		r.Quality = drivers.Quality(pb.Quality_QUALITY_UNCERTAIN)
		return toState
	}
	spacing := r.Property.Spacing.Milliseconds()
	if spacing == 0 {
		return everywhere
	}
	s, name := t.sieved(), state.Intern(r.Property.Name)
	if s.sampled == nil {
		s.sampled = map[state.Name]int64{}
	}
	last, known := s.sampled[name]
	if !known && p != nil {
		last, known = p.Time(), true // of an earlier life
		s.sampled[name] = last       // what comes now moves the property's time on
	}
	if known && at-last < spacing && at >= last {
		t.filtered(filterRate, 1)
		return toState
	}
	if p == nil || t.owes(name) || !repeats(p, r.Value, uint8(r.Quality), at) {
		s.sampled[name] = at
	}
	return everywhere
}

// within says whether a value differs from the one that is kept by no more than the deadband. What history has yet to be told, and what is
// asked for, is taken as it comes.
func (t *twin) within(r *model.Reading, p *state.Property) bool {
	if p.Quality() != uint8(r.Quality) || p.Value.Equal(r.Value) || !near(r, p) || t.owes(p.Name) {
		return false // the same again counts once a minute, as with drivers
	}
	d := t.st.FindDesired(p.Name)
	return d == nil || !open(d) || !d.Value.Equal(r.Value)
}

// near says whether a value is within the deadband around the one that is kept.
func near(r *model.Reading, p *state.Property) bool {
	was, ok := p.Value.Sample()
	is, ok2 := r.Value.Sample()
	return ok && ok2 && max(was-is, is-was) <= r.Property.Deadband
}

// flaps counts the changes of a property in its window, those beyond its deadband, and says whether they are too many. It has come to rest
// when they are half as many.
func (t *twin) flaps(r *model.Reading, p *state.Property, at int64) bool {
	limit := r.Property.FlapChanges
	if limit == 0 || p == nil {
		return false
	}
	s, name := t.sieved(), state.Intern(r.Property.Name)
	if s.flips == nil {
		s.flips, s.flapping = map[state.Name][]int64{}, map[state.Name]bool{}
	}
	from := at - r.Property.FlapWindow.Milliseconds()
	flips := slices.DeleteFunc(s.flips[name], func(x int64) bool { return x <= from })
	if !p.Value.Equal(r.Value) && !near(r, p) {
		if len(flips) > limit {
			flips = flips[1:]
		}
		flips = append(flips, at)
	}
	s.flips[name] = flips
	if s.flapping[name] {
		limit /= 2
	}
	s.flapping[name] = len(flips) > limit
	return s.flapping[name]
}

// fulfil has what is asked of a virtual property be what it reports.
func (t *twin) fulfil(d *state.Desired) {
	if !t.spec.bare() {
		return
	}
	if p := t.spec.thing.Of(d.Name.Value()); p == nil || !p.Virtual {
		return
	}
	t.report([]drivers.Change{{Property: d.Name.Value()}}, []state.Value{d.Value}, nil)
}

// nextStale is when the next property goes stale, in milliseconds since 1970; 0: none.
func (t *twin) nextStale() int64 {
	var next int64
	t.eachStaling(func(_ *state.Property, due int64) {
		if next == 0 || due < next {
			next = due
		}
	})
	return next
}

// eachStaling calls fn with the properties that will go stale, and when.
func (t *twin) eachStaling(fn func(p *state.Property, due int64)) {
	if !t.spec.bare() || !t.spec.thing.Staling || t.cfg.stopped {
		return
	}
	for i := range t.st.Properties {
		p := &t.st.Properties[i]
		if p.Quality() == uint8(drivers.QualityStale) || p.Quality() == uint8(drivers.QualityBad) {
			continue
		}
		if m := t.spec.thing.Of(p.Name.Value()); m != nil && m.Stale > 0 {
			fn(p, p.Time()+int64(m.Stale/time.Millisecond))
		}
	}
}

// goStale marks the properties of which nothing was heard for too long.
func (t *twin) goStale() {
	now := t.stamp()
	var delta *pb.StateDelta
	t.eachStaling(func(p *state.Property, due int64) {
		if due > now {
			return
		}
		p.Stamp = state.At(p.Time(), uint8(drivers.QualityStale))
		t.journalQuality(p.Name.Value(), uint8(drivers.QualityStale), due)
		t.reported(p)
		if delta == nil {
			delta = &pb.StateDelta{Properties: map[string]*pb.Property{}}
		}
		delta.Properties[p.Name.Value()] = p.Proto(t.live())
	})
	if delta == nil {
		return
	}
	t.changed()
	if len(t.watchers()) > 0 {
		t.emitDelta(delta)
	}
}
