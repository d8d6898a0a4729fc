package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/script"
	"github.com/polluxhq/pollux/wasm"
)

// Kinds of faults.
const (
	// faultSplit cuts the device's bytes where it likes, as TCP does. A test has to pass all the same.
	faultSplit = "split"
	// With the others it is not known what a test's steps find: the driver must not crash, and must be of use again
	// afterwards. faultDelay has the answers of rules come later, faultTwice repeats what the device sends, faultGarbage puts
	// bytes between that mean nothing, faultCut ends the connection between steps.
	faultDelay   = "delay"
	faultTwice   = "twice"
	faultGarbage = "garbage"
	faultCut     = "cut"
)

// faultKinds are all of them.
var faultKinds = []string{faultSplit, faultDelay, faultTwice, faultGarbage, faultCut}

// faults is how a device misbehaves, drawn from a seed. A nil *faults does nothing.
type faults struct {
	kind string
	seed uint64
	rnd  *rand.Rand
}

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

// harmless says whether a test passes under these faults as without.
func (f *faults) harmless() bool { return f == nil || f.kind == faultSplit }

// pieces is what the device really sends. stream: its transport does not keep frames together.
func (f *faults) pieces(data []byte, stream bool) [][]byte {
	switch {
	case f == nil:
	case f.kind == faultSplit && stream:
		var out [][]byte
		for len(data) > 0 {
			n := 1 + f.rnd.IntN(min(len(data), 7))
			out = append(out, data[:n])
			data = data[n:]
		}
		return out
	case f.kind == faultTwice && f.rnd.IntN(2) == 0:
		return [][]byte{data, data}
	case f.kind == faultGarbage:
		return [][]byte{f.garbage(data), data}
	}
	return [][]byte{data}
}

// garbage is what resembles a frame: some of its bytes are others, or it is one of random bytes with the same end.
func (f *faults) garbage(data []byte) []byte {
	out := append([]byte(nil), data...)
	if f.rnd.IntN(2) == 0 {
		out = make([]byte, 1+f.rnd.IntN(64))
		for i := range out {
			out[i] = byte(f.rnd.Uint32())
		}
		return append(out, data[max(0, len(data)-2):]...)
	}
	for range 1 + len(out)/8 {
		if len(out) > 0 {
			out[f.rnd.IntN(len(out))] = byte(f.rnd.Uint32())
		}
	}
	return out
}

// late is how much later an answer comes.
func (f *faults) late() time.Duration {
	if f == nil || f.kind != faultDelay {
		return 0
	}
	return time.Duration(f.rnd.IntN(200)) * time.Millisecond
}

// watched is the driver's runner as tests have it: it notes crashes, and lives longer than the engine that closes it.
type watched struct {
	drivers.Runner
	b *Bench
}

// Close implements drivers.Runner.
func (watched) Close() error { return nil }

// Model implements drivers.Modeler.
func (w watched) Model() *drivers.Model {
	if m, ok := w.Runner.(drivers.Modeler); ok {
		return m.Model()
	}
	return nil
}

// Handle implements drivers.Runner.
func (w watched) Handle(ctx context.Context, call drivers.Call, host drivers.Host) (drivers.Effects, error) {
	eff, err := w.Runner.Handle(ctx, call, host)
	r := w.b.rig.Load()
	var trap *wasm.Trap
	if errors.As(err, &trap) {
		r.note("the driver crashed: " + err.Error())
		r.mu.Lock()
		r.crash = err.Error()
		r.mu.Unlock()
	} else if call.Event == drivers.EventConnected {
		r.mu.Lock()
		r.greeted++
		r.mu.Unlock()
	}
	return eff, err
}

func (r *rig) watchedState() (crash string, greeted int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.crash, r.greeted
}

// endure goes through a test's steps while the device misbehaves, and then sees whether the driver is of use.
func (r *rig) endure(ctx context.Context) *Failure {
	steps := append(append([]script.Step(nil), r.file.Before...), r.test.Steps...)
	for i := range steps {
		s := &steps[i]
		r.line = s.Line
		if r.faults.kind == faultCut && r.faults.rnd.IntN(3) == 0 {
			r.peer.disconnect("cut by the test")
			if err := r.pass(r.clock.Now().Add(time.Second), nil); err != nil {
				return failed(err)
			}
			r.peer.connect()
		}
		_ = r.step(ctx, s) // what it finds is not known
		if crash, _ := r.watchedState(); crash != "" {
			return &Failure{Line: s.Line, Step: s.String(), Text: "the driver crashed under " + r.faults.kind, Got: crash}
		}
		r.played++
	}
	return r.useful()
}

// useful sees whether the driver takes a new connection, when all is well again.
func (r *rig) useful() *Failure {
	r.peer.mu.Lock()
	r.peer.faults = nil
	dials := r.peer.conn != nil
	r.peer.mu.Unlock()
	_, before := r.watchedState()
	r.peer.disconnect("the test is over")
	if err := r.pass(r.clock.Now().Add(time.Minute), nil); err != nil {
		return failed(err)
	}
	r.peer.connect()
	if err := r.pass(r.clock.Now().Add(time.Minute), nil); err != nil {
		return failed(err)
	}
	crash, after := r.watchedState()
	switch {
	case crash != "":
		return &Failure{Line: r.line, Text: "the driver crashed after " + r.faults.kind, Got: crash}
	case dials && after == before:
		return &Failure{Line: r.line, Text: "after " + r.faults.kind + " the driver does not take a new connection any more"}
	}
	return nil
}
