package harness

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// Seeds runs a walk at random as a subtest for each of n seeds, 0 first, or for as many as the environment's SEEDS says. It blocks until they are
// done, but for those that ask to go beside others.
func Seeds(t *testing.T, n int, walk func(t *testing.T, seed uint64)) {
	t.Helper()
	if more, err := strconv.Atoi(os.Getenv("SEEDS")); err == nil {
		n = more
	}
	for seed := range n {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { walk(t, uint64(seed)) })
	}
}
