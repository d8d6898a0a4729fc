package scenario

import (
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"time"
)

// Player gives a scenario's messages. It is not for concurrent use.
type Player struct {
	s     *Scenario
	names []string
	twins []twin
	// values of each twin: the scenario's, or as its model has them.
	values []map[string]*Value
}

// twin is what a player remembers of a twin.
type twin struct {
	number int
	pcg    *rand.PCG
	rng    *rand.Rand
	values []heldValue
	begun  bool // a message was made
}

// heldValue is what a twin remembers of a value.
type heldValue struct {
	offset float64
	last   any
	// until when each fault that began at random stays.
	until []time.Duration
}

// NewPlayer begins a scenario.
func NewPlayer(s *Scenario) *Player {
	p := &Player{s: s, names: slices.Sorted(maps.Keys(s.Values)), values: slices.Repeat([]map[string]*Value{s.Values}, len(s.Twins))}
	p.Reset()
	return p
}

// Fit has a twin say the scenario's values as its model has them, as the scenario's Fit gives them. Twins of one model may share them.
func (p *Player) Fit(twin int, values map[string]*Value) { p.values[twin] = values }

// Reset begins again: what comes is what came at first.
func (p *Player) Reset() {
	p.twins = make([]twin, len(p.s.Twins))
	for i := range p.twins {
		t := &p.twins[i]
		t.number, t.pcg = i, rand.NewPCG(p.s.Seed, uint64(i)+1)
		t.rng = rand.New(t.pcg) //nolint:gosec // the same noise each time is the point
		t.values = make([]heldValue, len(p.names))
		for j, name := range p.names {
			v := p.s.Values[name]
			t.values[j] = heldValue{offset: (2*t.rng.Float64() - 1) * v.Spread, until: make([]time.Duration, len(v.Faults))}
		}
	}
}

// Steps is how many messages a twin sends until the scenario is over.
func (p *Player) Steps() int { return int(p.s.Length/p.s.Every) + 1 }

// Message is what a twin reports at a time since the scenario's begin, JSON; nil where it has nothing to say. The time may go past the
// scenario's length where it repeats. Noise is a function of the seed, the twin and the time, so that a player that begins in the middle gives what
// one from the begin would; only faults that began before, at random, are not known to it.
func (p *Player) Message(twin int, at time.Duration) ([]byte, error) {
	if t := &p.twins[twin]; !t.begun {
		t.begun = true
		for _, before := range p.stuck(twin, at) {
			p.message(twin, before)
		}
	}
	out := p.message(twin, at)
	if len(out) == 0 {
		return nil, nil
	}
	return json.Marshal(out)
}

func (p *Player) message(twin int, at time.Duration) map[string]any {
	t, in := &p.twins[twin], p.within(at)
	t.pcg.Seed(p.s.Seed, mixed(uint64(t.number)<<48^uint64(at))) //nolint:gosec // a pattern of bits
	out := map[string]any{}
	for i, name := range p.names {
		v := p.values[twin][name]
		if x, ok := t.report(v, &t.values[i], at, in); ok {
			put(out, v.Path, x)
		}
	}
	return out
}

// stuck gives the steps at which those values were reported last that are stuck at a time, between the times of their faults.
func (p *Player) stuck(twin int, at time.Duration) (steps []time.Duration) {
	in := p.within(at)
	for _, v := range p.values[twin] {
		for i := range v.Faults {
			f := &v.Faults[i]
			begin := at - in + time.Duration(f.From)
			if f.Kind == "stuck" && f.Share == 0 && begin > 0 && f.holds(new(time.Duration), 1, at, in) {
				steps = append(steps, (begin-1)/p.s.Every*p.s.Every)
			}
		}
	}
	slices.Sort(steps)
	return slices.Compact(steps)
}

// mixed spreads what is in a few bits over all of them (splitmix64's last step).
func mixed(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// within gives the time since the last begin.
func (p *Player) within(at time.Duration) time.Duration {
	if p.s.Repeat && p.s.Length > 0 {
		return at % p.s.Length
	}
	return at
}

// put places a value in a message. Where two paths cross, the later one wins.
func put(out map[string]any, path []string, x any) {
	for _, name := range path[:len(path)-1] {
		next, ok := out[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			out[name] = next
		}
		out = next
	}
	out[path[len(path)-1]] = x
}

// report is a value with noise and faults; ok is false where a fault leaves none. It throws the dice equally often, whatever comes of it.
func (t *twin) report(v *Value, h *heldValue, at, in time.Duration) (x any, ok bool) {
	x, ok = v.At(in), true
	number, numeric := x.(float64)
	noise := t.rng.NormFloat64() * v.Noise
	if numeric {
		number += h.offset + noise
	}
	stuck := false
	for i := range v.Faults {
		f := &v.Faults[i]
		if !f.holds(&h.until[i], t.rng.Float64(), at, in) {
			continue
		}
		switch f.Kind {
		case "dropout":
			ok = false
		case "stuck":
			stuck = true
		case "spike":
			number += f.By
		}
	}
	if numeric {
		if v.Round > 0 {
			number = rounded(number, v.Round)
		}
		x = number
	}
	if stuck && h.last != nil {
		x = h.last
	}
	if ok {
		h.last = x
	}
	return x, ok
}

// rounded is the nearest multiple. A whole number is multiplied by, another one's reciprocal divided by, so that neither 49 nor 0.1 leaves a
// tail of digits.
func rounded(x, to float64) float64 {
	n := math.Round(x / to)
	if to == math.Trunc(to) {
		return n * to
	}
	return n / (1 / to)
}

// holds says whether a fault is on. dice is 0 to 1.
func (f *Fault) holds(until *time.Duration, dice float64, at, in time.Duration) bool {
	inside := f.To == 0 || in >= time.Duration(f.From) && in < time.Duration(f.To)
	if f.Share == 0 {
		return inside
	}
	if inside && dice < f.Share {
		*until = at + max(time.Duration(f.For), 1)
	}
	return at < *until
}

// At is the value without noise and faults: before the first key that one's, after the last that one's.
func (v *Value) At(at time.Duration) any {
	n := sort.Search(len(v.Keys), func(i int) bool { return v.Keys[i].At > at })
	if n == 0 {
		return v.Keys[0].Value
	}
	before := &v.Keys[n-1]
	if n == len(v.Keys) || v.Interpolate == Step {
		return before.Value
	}
	after := &v.Keys[n]
	from, ok1 := before.Value.(float64)
	to, ok2 := after.Value.(float64)
	if !ok1 || !ok2 {
		return before.Value
	}
	u := float64(at-before.At) / float64(after.At-before.At)
	if v.Interpolate == Smooth {
		u = u * u * (3 - 2*u)
	}
	return from + (to-from)*u
}

// Clock is the scenario's time as a function of ours: it runs at a speed, stands still, begins again. The zero Clock stands at 0.
type Clock struct {
	speed   float64
	at      time.Duration // the scenario's time at since
	since   time.Time
	running bool
}

// NewClock gives a clock that stands at 0 and will run so many times as fast as ours.
func NewClock(speed float64) *Clock { return &Clock{speed: speed} }

// At is the scenario's time.
func (c *Clock) At(now time.Time) time.Duration {
	if !c.running {
		return c.at
	}
	return c.at + time.Duration(float64(now.Sub(c.since))*c.speed)
}

// Running says whether it runs.
func (c *Clock) Running() bool { return c.running }

// Start lets it run on.
func (c *Clock) Start(now time.Time) { c.at, c.since, c.running = c.At(now), now, true }

// Pause lets it stand.
func (c *Clock) Pause(now time.Time) { c.at, c.running = c.At(now), false }

// Reset sets it to 0; whether it runs stays.
func (c *Clock) Reset(now time.Time) { c.Seek(now, 0) }

// Seek sets it to a time of the scenario.
func (c *Clock) Seek(now time.Time, at time.Duration) { c.at, c.since = at, now }

// SetSpeed changes how fast it runs from now on.
func (c *Clock) SetSpeed(now time.Time, speed float64) {
	c.at, c.since, c.speed = c.At(now), now, speed
}

// Until is how long from now it is until the scenario's time is at; it means nothing while the clock stands.
func (c *Clock) Until(now time.Time, at time.Duration) time.Duration {
	return max(0, time.Duration(float64(at-c.At(now))/c.speed))
}
