// Package journal holds what clients and devices saw against what a cluster promised. It knows no process and no network:
// the harness fills the journals, the checks here find what must not be. Every check can fail; its tests feed it journals
// with one fault each.
//
// All times are of one clock, the test process's.
package journal

import (
	"fmt"
	"slices"
	"time"
)

// Outcome is what a client knows of a call.
type Outcome int

const (
	// Unknown: it may have run, once.
	Unknown Outcome = iota
	// Done: it has run, exactly once.
	Done
	// Refused: it has not run, and will not.
	Refused
)

func (o Outcome) String() string { return [...]string{"unknown", "done", "refused"}[o] }

// Call is one command to a twin. Numbers of a twin rise with its client's calls, which come one after another.
type Call struct {
	Twin        string
	Number      int64
	Node        string // that was asked last
	Sent, Ended time.Time
	Outcome     Outcome
	Error       string
}

// Write is one line that a device was told.
type Write struct {
	At   time.Time
	Text string
}

// Conn is one connection of a device.
type Conn struct {
	Device, Node string // Node "" where nobody knows whose it was
	Remote       string
	Opened       time.Time
	Closed       time.Time // zero: still open
	Writes       []Write
}

func (c *Conn) closedBy(t time.Time) bool { return !c.Closed.IsZero() && !c.Closed.After(t) }

// Span is a time in which something was done to a node.
type Span struct {
	Node         string
	Began, Ended time.Time // Ended zero: it lasts
}

func (s Span) touches(from, to time.Time) bool {
	return s.Began.Before(to) && (s.Ended.IsZero() || s.Ended.After(from))
}

// Verdict is the result of one check.
type Verdict struct {
	Name string
	// Checked counts what was looked at. A check that looked at nothing has shown nothing.
	Checked int
	// Note says what was counted beside.
	Note string
	// Violations of the promise; none is good.
	Violations []string
}

func (v *Verdict) violate(format string, args ...any) {
	v.Violations = append(v.Violations, fmt.Sprintf(format, args...))
}

func (v Verdict) String() string {
	s := fmt.Sprintf("%-34s %7d checked, %d violations", v.Name, v.Checked, len(v.Violations))
	if v.Note != "" {
		s += "  (" + v.Note + ")"
	}
	return s
}

// Recovery is how long it took after a fault until every twin answered again.
type Recovery struct {
	Fault string
	Took  time.Duration
	// Bound that was promised; 0: none.
	Bound time.Duration
	// Last is the twin that answered last.
	Last string
}

// Recovered holds recoveries against their bounds.
func Recovered(all []Recovery) Verdict {
	v := Verdict{Name: "recovered within the bound"}
	for _, r := range all {
		v.Checked++
		if r.Bound > 0 && r.Took > r.Bound {
			v.violate("%s: the last twin (%s) answered after %v, want %v", r.Fault, r.Last, r.Took.Round(time.Millisecond), r.Bound)
		}
	}
	return v
}

// Quantiles gives the median and the longest.
func Quantiles(all []Recovery) (p50, longest time.Duration) {
	if len(all) == 0 {
		return 0, 0
	}
	took := make([]time.Duration, len(all))
	for i, r := range all {
		took[i] = r.Took
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)-1]
}
