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
	plan := func(seed uint64, count int, kinds ...string) (names []string) {
		r := &run{random: rand.New(rand.NewPCG(seed, 0))}
		for _, f := range r.draw(count, kinds) {
			names = append(names, f.name)
		}
		return names
	}
	every := len(faults())
	a := plan(7, 2*every)
	if b := plan(7, 2*every); !slices.Equal(a, b) {
		t.Errorf("one seed, two plans: %v and %v", a, b)
	}
	if b := plan(8, 2*every); slices.Equal(a, b) {
		t.Errorf("two seeds, one plan: %v", a)
	}
	for _, f := range faults() {
		if !slices.Contains(a[:every], f.name) {
			t.Errorf("%q is not in the first round: %v", f.name, a)
		}
	}
	if names := plan(7, 3, "drain"); !slices.Equal(names, []string{"drain", "drain", "drain"}) {
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
