package analytics

// stuck measures how long readings have been the same. The score is that time over what is allowed: the window, or what is
// learned, four times the longest that was usual. What turned out to be an anomaly is not learned.
type stuck struct {
	settings Settings
	scale    scale
	n        int64 // readings in all
	value    float64
	since    int64 // milliseconds, when the present value began
	last     int64
	same     int64 // readings of the present value
	longest  float64
	runs     int64
}

const (
	// usual is how many times the longest usual run is allowed, and fewest how many readings a run has at least before it counts.
	usual  = 4
	fewest = 10
	// fade is what becomes of the longest run with each one that ends: what was long ago is forgotten slowly.
	fade = 0.9995
	// learning is how many runs are needed.
	learning = 30
)

func (m *stuck) observe(at int64, x float64) Verdict {
	s := &m.settings
	m.n++
	if m.n == 1 || abs(x-m.value) > s.Tolerance {
		if m.n > 1 {
			m.ended()
		}
		m.value, m.since, m.same = x, at, 1
	} else {
		m.same++
	}
	m.last = max(at, m.since)
	v := Verdict{Ready: s.Window > 0 || m.runs >= learning}
	limit := m.limit()
	if !v.Ready || limit <= 0 {
		return v
	}
	v.Score = float64(m.last-m.since) / limit
	v.Anomaly = v.Score >= s.Threshold && m.same >= fewest
	return v
}

// limit is what is allowed, in milliseconds.
func (m *stuck) limit() float64 {
	if m.settings.Window > 0 {
		return float64(m.settings.Window.Milliseconds())
	}
	return usual * m.longest
}

// ended learns how long the value was the same. What was an anomaly is not learned, and of the rest no more than twice the longest.
func (m *stuck) ended() {
	run := float64(m.last - m.since)
	if m.runs >= learning {
		if run >= m.limit()*m.settings.Threshold && m.same >= fewest {
			return
		}
		run = min(run, 2*m.longest)
	}
	m.runs++
	m.longest = max(m.longest*fade, run)
}

func abs(x float64) float64 { return max(x, -x) }

func (m *stuck) due() int64           { return 0 }
func (m *stuck) elapse(int64) Verdict { return Verdict{} }
func (m *stuck) codeLong(*coder)      {}
func (m *stuck) changes() uint32      { return 0 }
func (m *stuck) code(c *coder) {
	m.scale.code(c)
	for _, x := range []*int64{&m.n, &m.since, &m.last, &m.same, &m.runs} {
		c.int(x)
	}
	c.float(&m.value)
	c.float(&m.longest)
}
