package transport

import (
	"math/rand/v2"
	"time"
)

// Backoff spaces attempts to connect: Min, doubled after each failure, never above Max. A quarter is added at random so
// that a thousand devices behind one switch do not come back in step.
type Backoff struct {
	// Min is the first delay; 0 means 1 s: a rebooting device is not hammered.
	Min time.Duration
	// Max is the longest delay, jitter included; 0 means 10 s: a repaired device is found soon.
	Max time.Duration
	// Jitter gives numbers in [0, 1); nil: random.
	Jitter func() float64
}

// WithDefaults fills in what is not set.
func (b Backoff) WithDefaults() Backoff {
	if b.Min <= 0 {
		b.Min = time.Second
	}
	if b.Max <= 0 {
		b.Max = 10 * time.Second
	}
	if b.Jitter == nil {
		b.Jitter = rand.Float64
	}
	return b
}

// Delay before the attempt after so many failures in a row (1: the first failure).
func (b Backoff) Delay(failures int) time.Duration {
	d := b.Min
	for i := 1; i < failures && d < b.Max; i++ {
		d *= 2
	}
	// The jitter of the longest delay lies below Max, not above it.
	d = min(d, b.Max*4/5)
	d = max(d, min(b.Min, b.Max))
	return min(d+time.Duration(b.Jitter()*float64(d)/4), b.Max)
}
