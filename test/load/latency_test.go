package load

import (
	"testing"
	"time"
)

func TestLatencyQuantiles(t *testing.T) {
	var a, b Latency
	for i := 1; i <= 1000; i++ {
		l := &a
		if i%2 == 0 {
			l = &b
		}
		l.observe(time.Duration(i) * time.Microsecond)
	}
	a.add(&b)
	if a.Count() != 1000 || a.Max() != time.Millisecond || a.Mean() != 500500*time.Nanosecond {
		t.Fatalf("%d, %v, %v", a.Count(), a.Max(), a.Mean())
	}
	for q, want := range map[float64]time.Duration{0: time.Microsecond, 0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond, 1: time.Millisecond} {
		if got := a.Quantile(q); got < want || got > want*113/100 {
			t.Errorf("quantile %v: %v, want about %v", q, got, want)
		}
	}
	var none Latency
	if none.Quantile(0.5) != 0 || none.Mean() != 0 {
		t.Error("quantile of nothing")
	}
	for d := time.Duration(1); d < 100*time.Hour; d = d*9/8 + 1 {
		if i := bucketOf(d); i >= len(a.buckets) || upperBound(i) < d || (i > 0 && upperBound(i-1) >= d) {
			t.Fatalf("%v is in bucket %d, up to %v", d, i, upperBound(i))
		}
	}
}
