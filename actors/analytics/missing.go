package analytics

import "math"

// missing learns how far apart readings usually are: the mean and the mean deviation of their distances, as TCP estimates
// the time of a round trip (V. Jacobson and M. Karels, "Congestion avoidance and control", SIGCOMM 1988; RFC 6298). The score is the time since the last reading
// over what is allowed: the window, or three times the mean distance and four deviations more. The distance over a gap is not learned.
type missing struct {
	settings  Settings
	n         int64
	last      int64
	mean, dev float64 // milliseconds
	told      bool    // that it is missing
}

// enough readings to know their distances.
const enough = 10

func (m *missing) observe(at int64, _ float64) Verdict {
	if m.n == 0 {
		m.n, m.last = 1, at
		return Verdict{Ready: m.settings.Window > 0}
	}
	apart := float64(at - m.last)
	if at <= m.last {
		if m.told { // it speaks again, by a clock that was put back
			m.last, m.told = at, false
		}
		return Verdict{Ready: m.ready()}
	}
	if !m.ready() || apart < m.limit()*m.settings.Threshold {
		m.learn(apart)
	}
	m.last, m.told = at, false
	return Verdict{Ready: m.ready()}
}

func (m *missing) learn(apart float64) {
	m.n++
	if m.n == 2 {
		m.mean, m.dev = apart, apart/2
		return
	}
	off := apart - m.mean
	m.dev += (math.Abs(off) - m.dev) / 32
	m.mean += off / 16
}

func (m *missing) ready() bool { return m.settings.Window > 0 || m.n >= enough }

// limit is what is allowed, in milliseconds.
func (m *missing) limit() float64 {
	if m.settings.Window > 0 {
		return float64(m.settings.Window.Milliseconds())
	}
	return max(3*m.mean+4*m.dev, 1)
}

func (m *missing) due() int64 {
	if !m.ready() || m.told || m.n == 0 {
		return 0
	}
	return m.last + int64(math.Ceil(m.limit()*m.settings.Threshold))
}

func (m *missing) elapse(now int64) Verdict {
	if !m.ready() || m.n == 0 {
		return Verdict{}
	}
	v := Verdict{Ready: true, Score: max(0, float64(now-m.last)/m.limit())}
	v.Anomaly = v.Score >= m.settings.Threshold
	m.told = v.Anomaly
	return v
}

func (m *missing) codeLong(*coder) {}
func (m *missing) changes() uint32 { return 0 }
func (m *missing) code(c *coder) {
	c.int(&m.n)
	c.int(&m.last)
	c.float(&m.mean)
	c.float(&m.dev)
	c.bool(&m.told)
}
