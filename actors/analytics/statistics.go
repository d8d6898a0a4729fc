package analytics

import "math"

// panes is how many parts a window has. A reading leaves the window with its part, so the window is longer by up to one of them.
const panes = 32

// statistics are sums over the parts of a window that moves by whole parts (J. Li et al., "No pane, no gain", SIGMOD Record 2005), put
// together by the parallel variance of T. F. Chan, G. H. Golub and R. J. LeVeque (1979): a reading costs the same whatever the window holds.
type statistics struct {
	settings Settings
	width    int64 // of a part, milliseconds
	now      pane
	past     [panes]pane // by number modulo panes; those too old are passed over
	changed  uint32
}

// pane is a part of the window.
type pane struct {
	number      int64 // since 1970, 0: nothing
	n           int64
	mean, m2    float64
	least, most float64
	// For the slope: mean of the times, in seconds from the part's beginning, and the sums of products.
	time, tt, tx float64
}

func newStatistics(s Settings) *statistics {
	return &statistics{settings: s, width: max(s.Window.Milliseconds()/panes, 1)}
}

func (m *statistics) observe(at int64, x float64) Verdict {
	number := at / m.width
	if number > m.now.number {
		if m.now.n > 0 {
			m.past[m.now.number%panes] = m.now
			m.changed++
		}
		m.now = pane{number: number}
	}
	m.now.add(float64(at-m.now.number*m.width)/1000, x)
	all := m.now
	for i := range m.past {
		if p := &m.past[i]; p.n > 0 && p.number > m.now.number-panes && p.number < m.now.number {
			all.merge(p, float64((p.number-m.now.number)*m.width)/1000)
		}
	}
	v := Verdict{Ready: true, Mean: all.mean, Min: all.least, Max: all.most}
	if all.n > 1 {
		v.SD = math.Sqrt(max(0, all.m2/float64(all.n-1)))
	}
	if all.tt > 0 {
		v.Rate = all.tx / all.tt
	}
	return v
}

// add takes a reading at a time t.
func (p *pane) add(t, x float64) {
	if p.n == 0 {
		p.least, p.most = x, x
	}
	p.n++
	p.least, p.most = min(p.least, x), max(p.most, x)
	n := float64(p.n)
	dx, dt := x-p.mean, t-p.time
	p.mean += dx / n
	p.time += dt / n
	p.m2 += dx * (x - p.mean)
	p.tt += dt * (t - p.time)
	p.tx += dt * (x - p.mean)
}

// merge takes a part whose times count from by seconds after this one's.
func (p *pane) merge(q *pane, by float64) {
	a, b := float64(p.n), float64(q.n)
	dx, dt := q.mean-p.mean, q.time+by-p.time
	w := a * b / (a + b)
	p.m2 += q.m2 + dx*dx*w
	p.tt += q.tt + dt*dt*w
	p.tx += q.tx + dx*dt*w
	p.mean += dx * b / (a + b)
	p.time += dt * b / (a + b)
	p.n += q.n
	p.least, p.most = min(p.least, q.least), max(p.most, q.most)
}

func (m *statistics) due() int64           { return 0 }
func (m *statistics) elapse(int64) Verdict { return Verdict{} }
func (m *statistics) changes() uint32      { return m.changed }

func (p *pane) code(c *coder) {
	c.int(&p.number)
	c.int(&p.n)
	for _, x := range []*float64{&p.mean, &p.m2, &p.least, &p.most, &p.time, &p.tt, &p.tx} {
		c.float(x)
	}
	if p.number < 0 || p.n < 0 {
		p.number, p.n, c.bad = 0, 0, true
	}
}

func (m *statistics) code(c *coder) { m.now.code(c) }

func (m *statistics) codeLong(c *coder) {
	for i := range m.past {
		m.past[i].code(c)
	}
}
