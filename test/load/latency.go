package load

import (
	"math/bits"
	"time"
)

// Latency is a histogram with buckets 12 % apart. The zero value is ready; not safe for concurrent use.
type Latency struct {
	buckets [512]uint64
	count   uint64
	sum     time.Duration
	max     time.Duration
}

func (l *Latency) observe(d time.Duration) {
	d = max(d, 0)
	l.buckets[bucketOf(d)]++
	l.count++
	l.sum += d
	l.max = max(l.max, d)
}

func (l *Latency) add(o *Latency) {
	for i, n := range o.buckets {
		l.buckets[i] += n
	}
	l.count += o.count
	l.sum += o.sum
	l.max = max(l.max, o.max)
}

// Count of observations.
func (l *Latency) Count() uint64 { return l.count }

// Max of them.
func (l *Latency) Max() time.Duration { return l.max }

// Mean of them; 0 without any.
func (l *Latency) Mean() time.Duration {
	if l.count == 0 {
		return 0
	}
	return l.sum / time.Duration(l.count)
}

// Quantile gives an upper bound of the q-quantile (0 to 1), at most 13 % too high; 0 without observations.
func (l *Latency) Quantile(q float64) time.Duration {
	rank := uint64(q*float64(l.count)) + 1
	for i, n := range l.buckets {
		if n >= rank {
			return min(upperBound(i), l.max)
		}
		rank -= n
	}
	return l.max
}

// Eight buckets for each power of two of nanoseconds.
func bucketOf(d time.Duration) int {
	if d < 8 {
		return int(d)
	}
	power := bits.Len64(uint64(d)) - 1
	return (power-2)*8 + int(d>>(power-3))&7
}

func upperBound(bucket int) time.Duration {
	if bucket < 8 {
		return time.Duration(bucket)
	}
	power := bucket/8 + 2
	return time.Duration(uint64(8+bucket%8+1)<<(power-3)) - 1
}
