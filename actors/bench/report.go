package bench

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Result is what came of one test.
type Result struct {
	File  string `json:"file"`
	Test  string `json:"test"`
	Line  int    `json:"line"`
	Mode  string `json:"mode,omitempty"`
	Steps int    `json:"steps"`
	// Failure is nil where the test passed.
	Failure *Failure `json:"failure,omitempty"`
	// Trail is what went between the driver and the world, the last of it; in the twin's time.
	Trail []string      `json:"trail,omitempty"`
	Took  time.Duration `json:"took_ns"`
}

// Failure is why a test failed.
type Failure struct {
	// Line of the step, and the step.
	Line int    `json:"line"`
	Step string `json:"step,omitempty"`
	// Text says what is wrong; Expected and Got what it is about, and Diff in what they differ.
	Text     string   `json:"text"`
	Expected string   `json:"expected,omitempty"`
	Got      string   `json:"got,omitempty"`
	Diff     []string `json:"diff,omitempty"`
}

// maxTrail bounds what a report shows of what happened.
const maxTrail = 40

// Write shows a result to people.
func (r *Result) Write(w io.Writer) {
	name := r.Test
	if r.Mode != "" {
		name += " (" + r.Mode + ")"
	}
	if r.Failure == nil {
		fmt.Fprintf(w, "ok    %s: %s\n", r.File, name)
		return
	}
	fmt.Fprintf(w, "FAIL  %s: %s\n", r.File, name)
	f := r.Failure
	fmt.Fprintf(w, "  %s:%d: %s\n", r.File, f.Line, f.Text)
	for _, l := range []struct{ name, text string }{{"step", f.Step}, {"expected", f.Expected}, {"got", f.Got}} {
		if l.text != "" {
			fmt.Fprintf(w, "    %-9s %s\n", l.name, strings.ReplaceAll(l.text, "\n", "\n              "))
		}
	}
	for _, l := range f.Diff {
		fmt.Fprintf(w, "      %s\n", l)
	}
	if len(r.Trail) > 0 {
		fmt.Fprintln(w, "    what happened, in the twin's time:")
		for _, l := range r.Trail {
			fmt.Fprintf(w, "      %s\n", l)
		}
	}
}
