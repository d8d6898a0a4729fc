package bench

import "math/rand/v2"

// faults is how a device misbehaves, drawn from a seed. A nil *faults does nothing.
type faults struct {
	kind string
	seed uint64
	rnd  *rand.Rand
}

// faultKinds are all of them.
var faultKinds = []string{faultSplit, faultDelay, faultTwice, faultGarbage, faultCut}

func newFaults(kind string, seed uint64) *faults {
	return &faults{kind: kind, seed: seed, rnd: rand.New(rand.NewPCG(seed, uint64(len(kind))))}
}

// again gives the same faults from the beginning.
func (f *faults) again() *faults {
	if f == nil {
		return nil
	}
	return newFaults(f.kind, f.seed)
}

// pieces cuts what the device sends, where its transport does not keep frames together.
func (f *faults) pieces(data []byte, stream bool) [][]byte {
	if f == nil || f.kind != faultSplit || !stream {
		return [][]byte{data}
	}
	var out [][]byte
	for len(data) > 0 {
		n := 1 + f.rnd.IntN(min(len(data), 7))
		out = append(out, data[:n])
		data = data[n:]
	}
	return out
}

// Kinds of faults.
const (
	// faultSplit cuts the device's bytes where it likes, as TCP does. A test has to pass all the same.
	faultSplit = "split"
	// faultGarbage puts bytes between frames that mean nothing; faultTwice repeats frames; faultCut ends the connection
	// in the middle of a test. What a test expects then is not known: the driver must not crash, and must be of use again
	// afterwards.
	faultGarbage = "garbage"
	faultTwice   = "twice"
	faultCut     = "cut"
	// faultDelay has the device's answers come later, by up to 200 ms.
	faultDelay = "delay"
)
