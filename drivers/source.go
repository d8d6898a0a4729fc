package drivers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/polluxhq/pollux/drivers/js"
	"github.com/polluxhq/pollux/wasm"
)

// IsSource tells a driver that is one file of JavaScript from a WASM module.
func IsSource(file []byte) bool { return js.IsSource(file) }

// engine is the JavaScript engine's module, compiled when the first driver needs it: all of them share it.
type engine struct {
	mu     sync.Mutex
	module *wasm.Module
}

// get compiles the engine, once. Errors: js.ErrNoEngine, those of wasm.Runtime.Compile.
func (e *engine) get(ctx context.Context, r *wasm.Runtime) (*wasm.Module, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.module != nil {
		return e.module, nil
	}
	file, err := js.Engine()
	if err != nil {
		return nil, err
	}
	rules := rules()
	name, functions := js.Imports()
	rules.Imports[name] = functions
	verified, err := wasm.Verify(file, rules)
	if err != nil {
		return nil, fmt.Errorf("javascript engine: %w", err)
	}
	metered, err := wasm.Meter(verified)
	if err != nil {
		return nil, fmt.Errorf("javascript engine: %w", err)
	}
	e.module, err = r.Compile(ctx, metered, MaxMemoryMB<<20)
	if err != nil {
		return nil, fmt.Errorf("javascript engine: %w", err)
	}
	return e.module, nil
}

func (e *engine) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.module == nil {
		return nil
	}
	return e.module.Close()
}

// loadSource makes the runner of a driver in JavaScript: the source is evaluated for its manifest, and then once more for
// the pool, within the memory that the manifest says.
func (s *Sandbox) loadSource(ctx context.Context, source []byte) (*runner, error) {
	module, err := s.engine.get(ctx, s.runtime)
	if err != nil {
		return nil, err
	}
	text, err := s.evaluate(ctx, module, source)
	if err != nil {
		return nil, err
	}
	manifest, model, err := parseManifest(text)
	if err != nil {
		return nil, &js.SourceError{File: js.FileName(source), Message: err.Error()}
	}
	pool := wasm.NewPool(module, wasm.PoolOptions{Entries: js.Entries(), Running: s.options.Running, Parked: s.options.Waiting,
		RecycleCalls: s.options.InstanceCalls, MemoryBytes: manifest.memoryBytes(), Init: func(ctx context.Context, in *wasm.Instance) error {
			_, err := js.Load(ctx, in, source)
			return err
		}})
	return &runner{sandbox: s, manifest: manifest, model: model, pool: pool, denied: manifest.deny()}, nil
}

// evaluate runs a source in an instance of its own and returns the manifest that it declares.
func (s *Sandbox) evaluate(ctx context.Context, module *wasm.Module, source []byte) ([]byte, error) {
	ctx, cancel := newTrying(ctx, s.options.VerifyTimeout)
	defer cancel()
	pool := wasm.NewPool(module, wasm.PoolOptions{Entries: js.Entries(), Running: 1, Parked: 1, MemoryBytes: DefaultMemoryMB << 20})
	defer func() { _ = pool.Close() }()
	in, err := pool.Acquire(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	defer pool.Release(in)
	text, err := js.Load(ctx, in, source)
	var trap *wasm.Trap
	var placed *js.SourceError
	switch {
	case errors.Is(err, context.DeadlineExceeded) && errors.As(err, &placed):
		placed.Message = fmt.Sprintf("the file's own code did not end within %s", s.options.VerifyTimeout)
		return nil, placed
	case errors.Is(err, context.DeadlineExceeded):
		return nil, &js.SourceError{File: js.FileName(source), Message: fmt.Sprintf("the file's own code did not end within %s", s.options.VerifyTimeout)}
	case errors.As(err, &trap):
		return nil, &js.SourceError{File: js.FileName(source), Message: "the file's own code crashed: " + trap.Reason}
	}
	return text, err
}

// denySet has a bit for each capability that a driver may not use, in the order of offered. A module's imports say which
// it uses; the engine imports all.
type denySet uint32

func (m *Manifest) deny() denySet {
	var set denySet
	for i, name := range offered {
		if !slices.Contains(m.Capabilities, name) {
			set |= 1 << i
		}
	}
	return set
}
