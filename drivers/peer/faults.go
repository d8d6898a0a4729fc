// Package peer is what simulated devices have in common: faults to order, and the journal of what they were told.
//
// It speaks no protocol; drivers/NAME/sim do. Nothing of a node uses it.
package peer

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Faults is how badly a simulated device behaves. The zero value is a device without faults.
type Faults struct {
	// Latency comes before each answer, and before each message that the device sends by itself.
	Latency time.Duration
	// Jitter is added to Latency, evenly between 0 and itself.
	Jitter time.Duration
	// Silence is the share (0 to 1) of answers that never come.
	Silence float64
	// Garbage is the share of answers that are noise instead.
	Garbage float64
	// Refuse is the share of connections that are refused, or given up, before a word is said.
	Refuse float64
	// Drop is the share of commands and messages at which the connection is cut.
	Drop float64
}

// ParseFaults reads a list such as `latency=200ms,jitter=50ms,silence=0.1,garbage=0.01,refuse=0.5,drop=0.01`.
// The empty text means no faults.
func ParseFaults(text string) (Faults, error) {
	var f Faults
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return Faults{}, fmt.Errorf("parse faults: %q is not NAME=VALUE", part)
		}
		if err := f.set(strings.TrimSpace(name), strings.TrimSpace(value)); err != nil {
			return Faults{}, fmt.Errorf("parse faults: %s: %w", part, err)
		}
	}
	return f, nil
}

func (f *Faults) set(name, value string) error {
	switch name {
	case "latency", "jitter":
		d, err := time.ParseDuration(value)
		if err != nil {
			return err
		}
		if d < 0 {
			return fmt.Errorf("negative duration")
		}
		if name == "latency" {
			f.Latency = d
		} else {
			f.Jitter = d
		}
		return nil
	}
	share := map[string]*float64{
		"silence": &f.Silence, "garbage": &f.Garbage, "refuse": &f.Refuse, "refused": &f.Refuse, "drop": &f.Drop,
	}[name]
	if share == nil {
		return fmt.Errorf("no such fault; there are latency, jitter, silence, garbage, refuse, drop")
	}
	p, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return err
	}
	if !(p >= 0 && p <= 1) {
		return fmt.Errorf("not a share between 0 and 1")
	}
	*share = p
	return nil
}

// String gives the text that ParseFaults reads.
func (f Faults) String() string {
	var parts []string
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"latency", f.Latency}, {"jitter", f.Jitter}} {
		if d.d > 0 {
			parts = append(parts, d.name+"="+d.d.String())
		}
	}
	for _, s := range []struct {
		name string
		p    float64
	}{{"silence", f.Silence}, {"garbage", f.Garbage}, {"refuse", f.Refuse}, {"drop", f.Drop}} {
		if s.p > 0 {
			parts = append(parts, s.name+"="+strconv.FormatFloat(s.p, 'g', -1, 64))
		}
	}
	return strings.Join(parts, ",")
}

// Outcome is what becomes of one answer.
type Outcome int

const (
	Answer  Outcome = iota // as it should be
	Silence                // nothing
	Garbage                // noise
	Drop                   // the connection is cut
)

// Dice throws for faults that can be changed at run time. Safe for concurrent use.
type Dice struct {
	mu     sync.Mutex
	faults Faults
	random *rand.Rand
}

// NewDice returns dice for f. The same seed throws the same.
func NewDice(f Faults, seed uint64) *Dice {
	return &Dice{faults: f, random: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15))}
}

// Set changes the faults from now on.
func (d *Dice) Set(f Faults) {
	d.mu.Lock()
	d.faults = f
	d.mu.Unlock()
}

// Refused says whether the next connection is to be refused.
func (d *Dice) Refused() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.random.Float64() < d.faults.Refuse
}

// Throw decides what becomes of the next answer, and after how long.
func (d *Dice) Throw() (Outcome, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delay := d.faults.Latency
	if d.faults.Jitter > 0 {
		delay += time.Duration(d.random.Int64N(int64(d.faults.Jitter)))
	}
	x := d.random.Float64()
	for _, c := range []struct {
		p float64
		o Outcome
	}{{d.faults.Drop, Drop}, {d.faults.Silence, Silence}, {d.faults.Garbage, Garbage}} {
		if x < c.p {
			return c.o, delay
		}
		x -= c.p
	}
	return Answer, delay
}

// Noise gives n random bytes, of all values.
func (d *Dice) Noise(n int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(d.random.UintN(256))
	}
	return b
}
