package topic

import (
	"strconv"
	"testing"
	"time"
)

// TestKnown: ids are known among the last ten thousand, whenever they came, and among those of a minute, of which there are a bounded number.
func TestKnown(t *testing.T) {
	slow, quick, flood := &known{}, &known{}, &known{}
	minute := time.Minute.Milliseconds()
	for i := range 30_000 {
		slow.add(strconv.Itoa(i), uint64(i+1), int64(i)*minute)
		quick.add(strconv.Itoa(i), uint64(i+1), int64(i)*minute/20_000)
	}
	for i := range 250_000 {
		flood.add(strconv.Itoa(i), uint64(i+1), 0)
		flood.add("", uint64(i+1), 0)
	}
	for name, x := range map[string]struct {
		k          *known
		all, first int
	}{"slow": {slow, 30_000, 20_000}, "20,000 a minute": {quick, 30_000, 9_999}, "flood": {flood, 250_000, 150_000}} {
		for i := range x.all {
			if at, ok := x.k.find(strconv.Itoa(i)); ok != (i >= x.first) || ok && at != uint64(i+1) {
				t.Errorf("%s: message %d is at %d, %t; known is what came from %d on", name, i, at, ok, x.first)
				break
			}
		}
		if n := len(x.k.ids); n > 2*(x.all-x.first)+leastKnown+1 {
			t.Errorf("%s: %d ids are held for %d", name, n, x.all-x.first)
		}
		if _, ok := x.k.find(""); ok {
			t.Errorf("%s: a message without an id is known", name)
		}
	}
}
