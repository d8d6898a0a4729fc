// Package bench runs driver tests: scripts (package drivers/script) that play a twin's device and the time.
//
// What runs is what runs on a node: the driver in its sandbox, the twin with its command queue, settings, timers and
// store. Played are the network, HTTP servers, other twins' drivers and the clock, which stands still but where a step
// moves it. Before each step everything has come to rest, so a test has no waits and does not depend on the machine.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/script"
)

const (
	// patience is how long of the machine's time a step may take to come to rest.
	patience = 30 * time.Second
	// aeon is longer than any test, in the twins' time.
	aeon = 100 * 365 * 24 * time.Hour
)

// Options of a Bench.
type Options struct {
	// File is the driver, as it would be uploaded.
	File []byte
	// CacheDir keeps compiled drivers; empty: they are compiled anew.
	CacheDir string
	// Compiler compiles drivers in a process of its own (drivers.SandboxOptions); empty: this process does.
	Compiler []string
	// Shuffle gives each event a fresh instance of the driver, so that what it keeps in its own memory is lost.
	Shuffle bool
	// Logger hears what the node has to say; nil: nobody does.
	Logger *slog.Logger
}

// Bench holds a driver, ready to be tested. Not safe for concurrent use.
type Bench struct {
	o        Options
	box      *drivers.Sandbox
	runner   drivers.Runner
	manifest *drivers.Manifest
	// node is where tests run, one after the other; nil: there is none yet, or it was given up. serial counts them.
	node   *node
	serial int
	// rig is the test that runs.
	rig atomic.Pointer[rig]
}

// Open verifies and compiles a driver. The error is a sentence for its author. Close the bench.
func Open(ctx context.Context, o Options) (*Bench, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	b := &Bench{o: o}
	so := drivers.SandboxOptions{CacheDir: o.CacheDir, Compiler: o.Compiler, Logger: o.Logger, Now: b.now}
	if o.Shuffle {
		so.InstanceCalls = 1
	}
	box, err := drivers.NewSandbox(so)
	if err != nil {
		return nil, err
	}
	b.box = box
	if b.manifest, err = box.Verify(ctx, o.File); err != nil {
		return nil, errors.Join(fmt.Errorf("the driver: %w", err), box.Close())
	}
	if b.runner, err = box.Load(ctx, o.File); err != nil {
		return nil, errors.Join(fmt.Errorf("the driver: %w", err), box.Close())
	}
	return b, nil
}

// now is what the driver's clock shows.
func (b *Bench) now() time.Time {
	if r := b.rig.Load(); r != nil {
		return r.clock.Now()
	}
	return time.Now()
}

// Manifest of the driver.
func (b *Bench) Manifest() *drivers.Manifest { return b.manifest }

// Close ends the bench.
func (b *Bench) Close() error {
	return errors.Join(b.drop(), b.runner.Close(), b.box.Close())
}

// Run runs one test of a script as it is written. Where it cannot be run at all, that is its failure, too.
func (b *Bench) Run(ctx context.Context, f *script.File, t *script.Test) *Result {
	return b.run(ctx, f, t, nil)
}

func (b *Bench) run(ctx context.Context, f *script.File, t *script.Test, faults *faults) *Result {
	began := time.Now()
	res := &Result{File: f.Path, Test: t.Name, Line: t.Line}
	r, err := b.begin(ctx, f, t, faults)
	if err != nil {
		res.Failure = &Failure{Line: t.Line, Text: "the test does not begin: " + err.Error()}
	} else {
		if faults.harmless() {
			res.Failure = r.play(ctx)
		} else {
			res.Failure = r.guard(func() *Failure { return r.endure(ctx) })
		}
		res.Steps = r.played
		res.Trail = r.trail
		if err := r.end(); err != nil && res.Failure == nil {
			res.Failure = &Failure{Line: t.Line, Text: err.Error()}
		}
	}
	res.Took = time.Since(began)
	return res
}
