package analytics

import (
	"math"
	"time"
)

// hours of a week.
const hours = 7 * 24

// seasonal holds, for each hour of the week, the mean of earlier weeks and how far readings were off from it. An hour is learned
// when it is over. Between the middles of hours what is expected is on the line from one to the next. How far readings are off is first
// smoothed over some readings, and the deviation is that of the smoothed distance: so noise counts less, and weather, which goes on for
// hours, as much as it does. (The baseline is that of seasonal subseries, R. B. Cleveland et al., "STL", Journal of Official Statistics
// 1990, with means that follow slowly instead of loess.)
type seasonal struct {
	settings Settings
	scale    scale
	hours    [hours]hour
	// The hour that goes on: its number in the week, from and until in milliseconds, and what it has brought.
	number      int64
	from, until int64
	n           int64
	mean        float64 // of the readings, those far off clamped
	square      float64 // mean of the squares of smoothed distances
	judged      int64   // of n, how many there was an expectation for
	smooth      float64
	pooled      float64 // variance over all hours
	pools       int64   // hours that are in it
	changed     uint32
}

// hour is what was learned of one.
type hour struct {
	weeks    byte // that it was learned in, as far as weeks count
	mean     float32
	variance float32
}

const (
	// remembered weeks: with them the mean of an hour moves by a sixth a week.
	remembered = 6
	// smoothing is over how many readings.
	smoothing = 6
	// judgedHours are needed before anything is judged, besides a week of the hour itself.
	judgedHours = 24
	// shared is how many weeks the deviation of all hours counts for in that of one.
	shared = 4
)

func newSeasonal(s Settings) *seasonal { return &seasonal{settings: s} }

func (m *seasonal) observe(at int64, x float64) Verdict {
	m.scale.see(x)
	if at >= m.until || m.until == 0 {
		m.turn(at)
	}
	s := &m.settings
	v := Verdict{}
	kept := x
	if e, ok := m.expected(at); ok {
		sd := m.deviation()
		off := x - e
		m.smooth += (off - m.smooth) * 2 / (smoothing + 1)
		v = Verdict{Ready: m.pools >= judgedHours, Expected: e, Score: math.Abs(m.smooth) / sd}
		v.Anomaly = v.Ready && v.Score >= s.Threshold
		far := m.smooth
		if v.Ready {
			far = clamp(far, s.Threshold*sd)
			kept = e + clamp(off, s.Threshold*sd)
		}
		m.judged++
		m.square += (far*far - m.square) / float64(m.judged)
	}
	m.n++
	m.mean += (kept - m.mean) / float64(m.n)
	return v
}

// turn ends an hour and begins the one of at.
func (m *seasonal) turn(at int64) {
	if m.n > 0 {
		m.learn()
	}
	local := time.UnixMilli(at).In(m.settings.Zone)
	m.number = int64(local.Weekday())*24 + int64(local.Hour())
	past := time.Duration(local.Minute())*time.Minute + time.Duration(local.Second())*time.Second + time.Duration(local.Nanosecond())
	m.from = at - past.Milliseconds()
	m.until = m.from + time.Hour.Milliseconds()
	m.n, m.mean, m.judged, m.square = 0, 0, 0, 0
}

// learn takes the hour that is over into those of its number.
func (m *seasonal) learn() {
	h := &m.hours[m.number]
	h.weeks = min(h.weeks+1, remembered)
	h.mean += (float32(m.mean) - h.mean) / float32(h.weeks)
	if m.judged > 0 {
		w := max(1/float32(max(h.weeks-1, 1)), 1.0/remembered)
		h.variance += (float32(m.square) - h.variance) * w
		m.pools++
		m.pooled += (m.square - m.pooled) / float64(min(m.pools, hours))
	}
	m.changed++
}

// expected is the value on the line between the middles of this hour and the next or the last.
func (m *seasonal) expected(at int64) (float64, bool) {
	h := &m.hours[m.number]
	if h.weeks == 0 {
		return 0, false
	}
	part := float64(at-m.from)/float64(time.Hour.Milliseconds()) - 0.5
	by := int64(1)
	if part < 0 {
		by = hours - 1
	}
	e := float64(h.mean)
	if next := &m.hours[(m.number+by)%hours]; next.weeks > 0 {
		e += (float64(next.mean) - e) * min(math.Abs(part), 0.5)
	}
	return e, true
}

// deviation is that of the hour, drawn to that of all.
func (m *seasonal) deviation() float64 {
	h := &m.hours[m.number]
	n := float64(max(h.weeks, 1) - 1)
	return max(math.Sqrt((n*float64(h.variance)+shared*m.pooled)/(n+shared)), m.scale.floor(m.settings.Tolerance))
}

func (m *seasonal) due() int64           { return 0 }
func (m *seasonal) elapse(int64) Verdict { return Verdict{} }
func (m *seasonal) changes() uint32      { return m.changed }

func (m *seasonal) code(c *coder) {
	m.scale.code(c)
	for _, x := range []*int64{&m.number, &m.from, &m.until, &m.n, &m.judged, &m.pools} {
		c.int(x)
	}
	for _, x := range []*float64{&m.mean, &m.square, &m.smooth, &m.pooled} {
		c.float(x)
	}
	if m.number < 0 || m.number >= hours {
		m.number, c.bad = 0, true
	}
}

func (m *seasonal) codeLong(c *coder) {
	for i := range m.hours {
		h := &m.hours[i]
		c.byte(&h.weeks)
		c.short(&h.mean)
		c.short(&h.variance)
	}
}
