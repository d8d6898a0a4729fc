package wheel

import (
	"math/rand/v2"
	"testing"
)

func TestEmpty(t *testing.T) {
	w := New[int](10, 8, 0)
	n, m := &Node[int]{Value: 1}, &Node[int]{Value: 2}
	if !w.Empty() {
		t.Error("a new wheel is not empty")
	}
	w.Set(n, 50)
	w.Set(n, 20) // again
	w.Set(m, 500)
	w.Advance(100, nil) // n is due, m goes round
	if w.Empty() {
		t.Error("empty with one timer left")
	}
	w.Remove(m)
	w.Remove(m)
	if !w.Empty() {
		t.Error("not empty after all are gone")
	}
	w.Set(n, 100)
	if due := w.Advance(100_000, nil); len(due) != 1 || !w.Empty() {
		t.Errorf("after a long rest %v is due", due)
	}
}

func TestFiresOnceNeitherEarlyNorLate(t *testing.T) {
	const tick, buckets = 20, 16
	w := New[int](tick, buckets, 0)
	r := rand.New(rand.NewPCG(1, 2))
	nodes := make([]Node[int], 500)
	at := make([]int64, len(nodes))
	for i := range nodes {
		nodes[i].Value = i
		at[i] = r.Int64N(5000)
		w.Set(&nodes[i], at[i])
	}
	// Half of them change their mind, to earlier or later.
	for i := 0; i < len(nodes); i += 2 {
		at[i] = r.Int64N(5000)
		w.Set(&nodes[i], at[i])
	}
	fired := map[int]int64{}
	for now := int64(0); now < 5200; now += 7 {
		for _, i := range w.Advance(now, nil) {
			if _, twice := fired[i]; twice {
				t.Fatalf("timer %d fired twice", i)
			}
			fired[i] = now
		}
	}
	for i, want := range at {
		got, ok := fired[i]
		if !ok {
			t.Fatalf("timer %d due at %d never fired", i, want)
		}
		// One tick of rounding, one step of the loop, and the first tick is never in the past.
		if got < want || got > max(want, tick)+tick+7 {
			t.Errorf("timer %d due at %d fired at %d", i, want, got)
		}
	}
}

func TestRemoveAndEarlier(t *testing.T) {
	w := New[string](10, 8, 0)
	var a, b, c Node[string]
	a.Value, b.Value, c.Value = "a", "b", "c"
	w.Set(&a, 50)
	w.Set(&b, 50)
	w.Set(&c, 1000)
	w.Remove(&a)
	w.Earlier(&b, 500)
	w.Earlier(&c, 60)
	got := w.Advance(70, nil)
	if len(got) != 2 || got[0] != "b" || got[1] != "c" {
		t.Fatalf("due at 70: %v, want [b c]", got)
	}
}

func TestLongPause(t *testing.T) {
	w := New[int](10, 8, 0)
	var n [3]Node[int]
	for i := range n {
		n[i].Value = i
		w.Set(&n[i], int64(30+i*100_000))
	}
	if got := w.Advance(150_000, nil); len(got) != 2 {
		t.Fatalf("after a pause %v are due, want 0 and 1", got)
	}
	if got := w.Advance(200_040, nil); len(got) != 1 || got[0] != 2 {
		t.Fatalf("then %v is due, want 2", got)
	}
}

func TestNextIsWhenAdvanceFindsSomething(t *testing.T) {
	const tick = 20
	w := New[int](tick, 16, 0)
	if _, ok := w.Next(); ok {
		t.Fatal("an empty wheel has a next")
	}
	r := rand.New(rand.NewPCG(3, 4))
	nodes := make([]Node[int], 100)
	for i := range nodes {
		nodes[i].Value = i
		w.Set(&nodes[i], 1+r.Int64N(5000))
	}
	for fired := 0; fired < len(nodes); {
		at, ok := w.Next()
		if !ok {
			t.Fatalf("nothing is next, and %d of %d fired", fired, len(nodes))
		}
		if due := w.Advance(at-tick, nil); len(due) > 0 {
			t.Fatalf("%v fired before %d", due, at)
		}
		due := w.Advance(at, nil)
		if len(due) == 0 {
			t.Fatalf("nothing fired at %d", at)
		}
		fired += len(due)
	}
}
