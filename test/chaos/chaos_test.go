package chaos

import (
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/harness"
)

var (
	seed    = flag.Uint64("seed", 0, "seed of the run; 0: drawn from the clock")
	seconds = flag.Int("seconds", 25, "about how long the run does harm")
	only    = flag.String("faults", "", "kinds of faults, with commas; empty: all")
)

// TestChaos is `make chaos`, and shorter in `make test`.
func TestChaos(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano() % 1e6)
	}
	var kinds []string
	if *only != "" {
		kinds = strings.Split(*only, ",")
	}
	Run(t, *seed, time.Duration(*seconds)*time.Second, kinds...)
}

// TestFaults does each kind of harm once to one cluster under load.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("two minutes")
	}
	Each(t)
}

func TestDraw(t *testing.T) {
	plan := func(seed uint64, span time.Duration, kinds ...string) (names []string, cost time.Duration) {
		r := &run{random: rand.New(rand.NewPCG(seed, 0))}
		for _, f := range r.draw(span, kinds) {
			names, cost = append(names, f.name), cost+f.cost
		}
		return names, cost
	}
	a, cost := plan(7, 3*time.Minute)
	if b, _ := plan(7, 3*time.Minute); !slices.Equal(a, b) {
		t.Errorf("one seed, two plans: %v and %v", a, b)
	}
	if b, _ := plan(8, 3*time.Minute); slices.Equal(a, b) {
		t.Errorf("two seeds, one plan: %v", a)
	}
	if cost > 3*time.Minute || len(a) < len(faults()) {
		t.Errorf("%v: %v", cost, a)
	}
	if names, _ := plan(7, time.Minute, "drain"); len(names) < 3 || slices.ContainsFunc(names, func(n string) bool { return n != "drain" }) {
		t.Errorf("only drains were asked for: %v", names)
	}
}

func TestRecoverSaysWhoDoesNotAnswer(t *testing.T) {
	nobody := harness.NewCaller(func() []*harness.Node { return nil })
	took, last, err := Recover(nobody, []string{"line-1", "echo-1"}, time.Now(), 300*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "2 of 2 twins") {
		t.Errorf("%v, %q, %v", took, last, err)
	}
}
