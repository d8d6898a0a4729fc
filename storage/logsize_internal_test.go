package storage

import (
	"math/rand/v2"
	"testing"
)

// TestLogSizes compares with a sum of each entry's size.
func TestLogSizes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var s logSizes
	sizes := map[uint64]int64{}
	first, last, ends := uint64(1), uint64(0), 0
	sum := func(to uint64) (n int64) {
		for i := first; i <= min(to, last); i++ {
			n += sizes[i]
		}
		return n
	}
	for range 20_000 {
		switch k := rnd.IntN(100); {
		case k < 98 || last < first:
			last++
			size := rnd.Int64N(300 << 10)
			sizes[last] = size
			s.add(last, size)
		case k < 99 || ends == 5: // a prefix goes
			first += rnd.Uint64N(min(100, last-first+1)) + 1
			if first > last {
				s.begin(0)
			} else {
				s.begin(first)
			}
		default: // a conflict's end goes, and up to a step with it
			ends++
			last -= rnd.Uint64N(min(5, last-first+1))
			s.end(last + 1)
		}
		index := first + rnd.Uint64N(last-first+5)
		all, to := s.sizes(index)
		// Each border is known to within a step, and an entry.
		off := int64(2+ends) * (sizeStep + 300<<10)
		if d := all - sum(last); d > off || d < -off {
			t.Fatalf("%d..%d: size %d, want %d", first, last, all, sum(last))
		}
		if d := to - sum(index); d > off || d < -off || to < 0 || to > all {
			t.Fatalf("%d..%d: size to %d is %d of %d, want %d", first, last, index, to, all, sum(index))
		}
	}
	if len(s.marks) > int((s.total-s.before)/sizeStep)*2+2 {
		t.Errorf("%d marks", len(s.marks))
	}
}
