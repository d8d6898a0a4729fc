package bench

import (
	"context"
	"fmt"
	"io"
	"regexp"

	"github.com/polluxhq/pollux/drivers/script"
)

// Suite is how the tests of a driver are run.
type Suite struct {
	Options
	Files []*script.File
	// Only runs the tests whose names match; nil: all.
	Only *regexp.Regexp
	// Shuffle runs each test again with a fresh instance of the driver for each event.
	Shuffle bool
	// Faults runs each test again with a device that misbehaves, so many times, drawn from Seed.
	Faults int
	Seed   uint64
	// Each, where not nil, is called with each result as it comes.
	Each func(*Result)
}

// Report is what came of a suite.
type Report struct {
	Tests  []*Result `json:"tests"`
	Passed int       `json:"passed"`
	Failed int       `json:"failed"`
}

// Run runs the suite. The error says why it could not be run; what failed is in the report.
func (s *Suite) Run(ctx context.Context) (*Report, error) {
	r := &Report{Tests: []*Result{}}
	plain := func(b *Bench) error { return s.pass(ctx, r, b, "", nil) }
	if err := s.with(ctx, false, plain, func(b *Bench) error { return s.faulty(ctx, r, b) }); err != nil || !s.Shuffle {
		return r, err
	}
	return r, s.with(ctx, true, func(b *Bench) error { return s.pass(ctx, r, b, "shuffle", nil) })
}

// with opens a bench for some passes.
func (s *Suite) with(ctx context.Context, shuffle bool, passes ...func(*Bench) error) error {
	o := s.Options
	o.Shuffle = shuffle
	b, err := Open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	for _, pass := range passes {
		if err := pass(b); err != nil {
			return err
		}
	}
	return nil
}

// faulty runs the tests under each kind of faults.
func (s *Suite) faulty(ctx context.Context, r *Report, b *Bench) error {
	for i := range s.Faults {
		for _, kind := range faultKinds {
			if err := s.pass(ctx, r, b, "", newFaults(kind, s.Seed+uint64(i))); err != nil {
				return err
			}
		}
	}
	return nil
}

// pass runs all tests once.
func (s *Suite) pass(ctx context.Context, rep *Report, b *Bench, mode string, f *faults) error {
	for _, file := range s.Files {
		for i := range file.Tests {
			t := &file.Tests[i]
			if s.Only != nil && !s.Only.MatchString(t.Name) || f != nil && t.Exact {
				continue
			}
			res := b.run(ctx, file, t, f.again())
			if res.Mode = mode; f != nil {
				res.Mode = fmt.Sprintf("%s, seed %d", f.kind, f.seed)
			}
			s.count(rep, res)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Suite) count(rep *Report, res *Result) {
	rep.Tests = append(rep.Tests, res)
	if res.Failure == nil {
		rep.Passed++
		res.Trail = nil
	} else {
		rep.Failed++
	}
	if s.Each != nil {
		s.Each(res)
	}
}

// Write shows a report's summary to people.
func (r *Report) Write(w io.Writer) {
	if r.Failed == 0 {
		fmt.Fprintf(w, "%d passed\n", r.Passed)
		return
	}
	fmt.Fprintf(w, "%d failed, %d passed\n", r.Failed, r.Passed)
}
