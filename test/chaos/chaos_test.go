package chaos

import (
	"flag"
	"strings"
	"testing"
	"time"
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
