package model

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
	"github.com/polluxhq/pollux/drivers/units"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Codes of refusals.
const (
	Malformed   = "malformed"
	TooDeep     = "too_deep"
	WrongType   = "wrong_type"
	WrongUnit   = "wrong_unit"
	TimeFuture  = "time_future"
	TimeAncient = "time_ancient"
	UnknownPath = "unknown_path"
)

const (
	// maxDepth bounds how deep a message is nested.
	maxDepth = 32
	// maxRefusals bounds the refusals that are told of one message; the others are counted.
	maxRefusals = 16
)

// Times bound the times of messages and of the values in them, in milliseconds.
type Times struct {
	// Ahead is how far a device's clock may be before ours, as clocks of devices are.
	Ahead int64
	// Age of a message that is to change the present, and History of any value.
	Age, History int64
}

// Refusal says why a value, or with an empty Property a message or a place in it, was not taken.
type Refusal struct {
	Code, Property, Reason string
}

// Reading is a property's value in a message, in the model's unit.
type Reading struct {
	Property *Property
	Value    state.Value
	// Time in milliseconds since 1970; 0: the message gives none.
	Time    int64
	Quality drivers.Quality
}

// Message is what was read.
type Message struct {
	Readings []Reading
	Refused  []Refusal
	// Ignored counts what the model has no place for, Beyond the refusals that are not in Refused.
	Ignored, Beyond int
	// found and slots are places to work in.
	found []found
	slots []wire.Value
}

// Clear makes a message ready to be read into again.
func (m *Message) Clear() {
	clear(m.Readings)
	clear(m.found)
	clear(m.slots)
	*m = Message{Readings: m.Readings[:0], found: m.found[:0], slots: m.slots[:0]}
}

// only is what is left of a message that is refused whole.
func (m *Message) only(r Refusal, ignored int) {
	m.Readings, m.Refused, m.Ignored, m.Beyond = m.Readings[:0], []Refusal{r}, ignored, 0
}

var tooDeep = Refusal{TooDeep, "", fmt.Sprintf("the message is nested deeper than %d", maxDepth)}

func (m *Message) refuse(code, property, format string, args ...any) {
	if len(m.Refused) == maxRefusals {
		m.Beyond++
		return
	}
	m.Refused = append(m.Refused, Refusal{code, property, fmt.Sprintf(format, args...)})
}

// reader is one pass over a message.
type reader struct {
	m     *Model
	out   *Message
	slots []wire.Value
	found []found
	// bounds of the times in it.
	bounds Times
}

// found is a property's place in the message.
type found struct {
	property *Property
	raw      wire.Value
}

// Read takes a message, JSON, apart. sent is its time as its sender or its door gave it, now the node's, in milliseconds since
// 1970; sent may be 0. A wrong value is refused alone, and one whose time is out of bounds. Nothing of the result refers to payload.
func (m *Model) Read(payload []byte, sent, now int64, bounds Times) Message {
	var out Message
	m.ReadInto(&out, payload, sent, now, bounds)
	return out
}

// ReadInto is Read into a message that is new or was cleared.
func (m *Model) ReadInto(out *Message, payload []byte, sent, now int64, bounds Times) {
	v, err := wire.Parse(payload)
	if err != nil {
		if err = ValidJSON(payload); err == nil {
			out.only(tooDeep, 0) // deeper than the codec goes
		} else {
			out.refuse(Malformed, "", "%v", err)
		}
		return
	}
	if m.slots > 0 {
		out.slots = append(out.slots, make([]wire.Value, m.slots+1)...)
	}
	r := reader{m: m, out: out, bounds: bounds, found: out.found, slots: out.slots}
	deep := !r.walk(m.root, v, 0)
	out.found = r.found
	if deep {
		out.only(tooDeep, 0)
		return
	}
	whole := sent
	if m.time > 0 && len(r.slots[m.time]) > 0 {
		at, err := timeOf(r.slots[m.time])
		if err != nil {
			out.only(Refusal{WrongType, "", "the message's time: " + err.Error()}, out.Ignored)
			return
		}
		whole = at
	}
	for i := range r.found {
		r.read(&r.found[i], whole, now)
	}
}

// walk goes through a message and the model's places together; false: it is too deep.
func (r *reader) walk(n *node, v wire.Value, depth int) bool {
	if depth > maxDepth {
		return false
	}
	if n.slot > 0 {
		r.slots[n.slot] = v
	}
	for _, p := range n.properties {
		r.found = append(r.found, found{p, v})
	}
	if n.children == nil {
		return len(n.properties) == 0 && n.slot == 0 || shallow(v, maxDepth-depth)
	}
	kind := v.Kind()
	if kind != wire.Object && kind != wire.Array {
		if len(n.properties) == 0 && n.slot == 0 {
			r.unknown("", v)
		}
		return true
	}
	ok, i := true, 0
	step := func(key []byte, value wire.Value) bool {
		next := n.children[string(key)]
		if next == nil {
			if len(n.properties) == 0 { // else it is part of that property's value
				r.unknown(string(key), value)
			}
			ok = shallow(value, maxDepth-depth)
			return ok
		}
		ok = r.walk(next, value, depth+1)
		return ok
	}
	if kind == wire.Object {
		v.Members(step)
		return ok
	}
	v.Each(func(_ string, value wire.Value) bool {
		var number [8]byte
		i++
		return step(strconv.AppendInt(number[:0], int64(i-1), 10), value)
	})
	return ok
}

// shallow says whether a value is nested no deeper than that.
func shallow(v wire.Value, deep int) bool {
	if k := v.Kind(); k != wire.Object && k != wire.Array {
		return true
	}
	depth, text := 0, false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			if depth++; depth > deep {
				return false
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return true
}

func (r *reader) unknown(name string, v wire.Value) {
	if !r.m.refuse {
		r.out.Ignored++
		return
	}
	r.out.refuse(UnknownPath, "", "the model has no place for %.64q: %.64s", name, v)
}

// read makes a reading of what was found of a property.
func (r *reader) read(f *found, whole, now int64) {
	p := f.property
	at := whole
	if p.time > 0 && len(r.slots[p.time]) > 0 {
		var err error
		if at, err = timeOf(r.slots[p.time]); err != nil {
			r.out.refuse(WrongType, p.Name, "its time: %s", err)
			return
		}
	}
	switch {
	case at > now+r.bounds.Ahead:
		r.out.refuse(TimeFuture, p.Name, "its time %s is in the future", stamp(at))
		return
	case at != 0 && at < now-r.bounds.History:
		r.out.refuse(TimeAncient, p.Name, "its time %s is older than what history takes", stamp(at))
		return
	}
	value, ok := r.value(p, f.raw)
	if !ok {
		return
	}
	r.out.Readings = append(r.out.Readings, Reading{Property: p, Value: value, Time: at, Quality: r.quality(p, value)})
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// value reads a value in the model's unit, or refuses it.
func (r *reader) value(p *Property, raw wire.Value) (state.Value, bool) {
	from, converts := p.from, p.converts
	if p.unitAt > 0 && r.slots[p.unitAt].Exists() {
		code, _ := r.slots[p.unitAt].Text()
		u, err := units.Parse(code)
		if err != nil || !u.Same(p.unit) {
			r.out.refuse(WrongUnit, p.Name, "%.70s is no unit of what %s measures", r.slots[p.unitAt], p.Unit)
			return state.Value{}, false
		}
		from, converts = u, true
	}
	f, isNumber := raw.Float()
	if converts && isNumber {
		x, err := units.Convert(f, from, p.unit)
		if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
			r.out.refuse(WrongUnit, p.Name, "%.40s %s is no number in %s", raw, from.Code, p.Unit)
			return state.Value{}, false
		}
		switch {
		case p.Type == "integer":
			x = math.Round(x)
		case x != f: // what is in the model's unit already has all of its digits
			x = rounded(x)
		}
		return state.NumberValue(x), true
	}
	if !p.Fits(raw) {
		r.out.refuse(WrongType, p.Name, "%s", p.Misfit(raw))
		return state.Value{}, false
	}
	if isNumber {
		return state.NumberValue(f), true
	}
	v, err := state.ParseValue(raw)
	if err != nil {
		r.out.refuse(WrongType, p.Name, "%.64s: %s", raw, err)
		return state.Value{}, false
	}
	return v, true
}

// rounded takes the last digits away that only the conversion made: 20.000000000000057 is 20.
func rounded(x float64) float64 {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 12, 64), 64)
	if err != nil {
		return x
	}
	return y
}

// qualities are the words of a message for the quality of a value.
var qualities = map[string]drivers.Quality{
	"good": drivers.QualityGood, "bad": drivers.QualityBad, "stale": drivers.QualityStale, "uncertain": drivers.Quality(pb.Quality_QUALITY_UNCERTAIN),
}

// quality of a reading: as the message says; of what it does not know, bad. Else good, or uncertain where the value does not fit
// the schema.
func (r *reader) quality(p *Property, v state.Value) drivers.Quality {
	if p.quality > 0 && len(r.slots[p.quality]) > 0 {
		said := r.slots[p.quality]
		word, isText := said.Text()
		q, known := qualities[word]
		if good, isBool := said.Bool(); isBool && good {
			q, known = drivers.QualityGood, true
		}
		if !known || !isText && q != drivers.QualityGood {
			q = drivers.QualityBad
		}
		if q != drivers.QualityGood {
			return q
		}
	}
	if p.bounded && v.Kind() != state.Null && p.Check(v.AppendJSON(nil)) != nil {
		return drivers.Quality(pb.Quality_QUALITY_UNCERTAIN)
	}
	return drivers.QualityGood
}

// timeOf reads a time: RFC 3339, or a number since 1970 in seconds, milliseconds, microseconds or nanoseconds, whichever is
// of our days.
func timeOf(v wire.Value) (int64, error) {
	if text, ok := v.Text(); ok {
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return 0, fmt.Errorf("%.64q is no time of RFC 3339", text)
		}
		return t.UnixMilli(), nil
	}
	x, ok := v.Float()
	if !ok || math.Abs(x) > 1e20 {
		return 0, fmt.Errorf("%.64s is no time", v)
	}
	switch {
	case math.Abs(x) < 1e11:
		x *= 1e3
	case math.Abs(x) < 1e14:
	case math.Abs(x) < 1e17:
		x /= 1e3
	default:
		x /= 1e6
	}
	if x == 0 {
		x = 1 // 0 means none, and 1970 is as ancient a millisecond later
	}
	return int64(x), nil
}
