package analytics

import "math"

// ewma holds the exponentially weighted mean of the readings, and the weighted square of how far readings were off from it
// (S. W. Roberts, "Control chart tests based on geometric moving averages", Technometrics 1959; the recursion of the variance as
// in T. Finch, "Incremental calculation of weighted mean and variance", 2009). The score is the distance in such deviations. A reading far off
// is learned only as far as the threshold reaches, so that an outlier does not hide the next one.
type ewma struct {
	settings       Settings
	scale          scale
	n              int64
	mean, variance float64
}

// slower is how much longer the deviation is remembered than the mean: what moves along with the readings must not forget how they move.
const slower = 8

func (m *ewma) observe(_ int64, x float64) Verdict {
	s := &m.settings
	m.scale.see(x)
	m.n++
	if m.n == 1 {
		m.mean = x
		return Verdict{Expected: x}
	}
	off := x - m.mean
	sd := max(math.Sqrt(m.variance), m.scale.floor(s.Tolerance))
	v := Verdict{Ready: m.n > int64(3*s.Readings), Score: math.Abs(off) / sd, Expected: m.mean}
	v.Anomaly = v.Ready && v.Score >= s.Threshold
	if v.Ready {
		off = clamp(off, s.Threshold*sd)
	}
	// The first readings count alike.
	m.mean += off * max(2/(float64(s.Readings)+1), 1/float64(m.n))
	a := max(2/(float64(slower*s.Readings)+1), 1/float64(m.n))
	m.variance += a * (off*off - m.variance)
	return v
}

func (m *ewma) due() int64           { return 0 }
func (m *ewma) elapse(int64) Verdict { return Verdict{} }
func (m *ewma) codeLong(*coder)      {}
func (m *ewma) changes() uint32      { return 0 }
func (m *ewma) code(c *coder) {
	m.scale.code(c)
	c.int(&m.n)
	c.float(&m.mean)
	c.float(&m.variance)
}
