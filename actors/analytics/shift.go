package analytics

import "math"

// shift learns a level and its deviation, and then adds up how far readings are beyond half a deviation of it, to either side
// (E. S. Page, "Continuous inspection schemes", Biometrika 1954: the two-sided cumulative sum). The score is the larger sum, in
// deviations. Beyond the threshold the level has changed: it is an anomaly until the new level is learned.
type shift struct {
	settings       Settings
	scale          scale
	n              int64 // readings of this level
	mean, square   float64
	up, down       float64
	changed, known bool // known: there was a level before this one
	before         float64
}

const (
	slack = 0.5 // deviations from the level that are not added up
	// single is as much as one reading can add, in deviations: an outlier is no change of the level.
	single = 3
	// settle is how many times as long as it is learned the level is made better, as long as nothing is suspicious.
	settle = 5
)

func (m *shift) observe(_ int64, x float64) Verdict {
	s := &m.settings
	m.scale.see(x)
	if m.n < int64(s.Readings) {
		m.learn(x)
		if m.n == int64(s.Readings) {
			m.changed, m.known = false, true
		}
		if m.changed {
			return Verdict{Ready: true, Anomaly: true, Score: s.Threshold, Expected: m.before}
		}
		return Verdict{Ready: m.known, Expected: m.mean}
	}
	sd := max(math.Sqrt(m.square/float64(m.n-1)), m.scale.floor(s.Tolerance))
	off := clamp((x-m.mean)/sd, single)
	m.up, m.down = max(0, m.up+off-slack), max(0, m.down-off-slack)
	v := Verdict{Ready: true, Score: max(m.up, m.down), Expected: m.mean}
	if v.Score >= s.Threshold {
		v.Anomaly = true
		*m = shift{settings: m.settings, scale: m.scale, changed: true, known: true, before: m.mean}
		m.learn(x)
		return v
	}
	if m.n < int64(settle*s.Readings) && v.Score < s.Threshold/4 {
		m.learn(x)
	}
	return v
}

// learn takes a reading into the level (B. P. Welford, Technometrics 1962).
func (m *shift) learn(x float64) {
	m.n++
	off := x - m.mean
	m.mean += off / float64(m.n)
	m.square += off * (x - m.mean)
}

func (m *shift) due() int64           { return 0 }
func (m *shift) elapse(int64) Verdict { return Verdict{} }
func (m *shift) codeLong(*coder)      {}
func (m *shift) changes() uint32      { return 0 }
func (m *shift) code(c *coder) {
	m.scale.code(c)
	c.int(&m.n)
	for _, x := range []*float64{&m.mean, &m.square, &m.up, &m.down, &m.before} {
		c.float(x)
	}
	c.bool(&m.changed)
	c.bool(&m.known)
}
