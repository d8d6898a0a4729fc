package drivers

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers/js"
	"github.com/polluxhq/pollux/wasm"
)

// SandboxOptions of a Sandbox. A zero field means its default.
type SandboxOptions struct {
	// CacheDir holds compiled code; empty: none is kept across restarts.
	CacheDir string
	// Compiler is the command line of a program that compiles in a process of its own, see wasm.Options; empty: drivers
	// are compiled in this process.
	Compiler []string
	// MemoryBudget bounds the memory of all drivers' instances together, in bytes; default 1 GiB.
	MemoryBudget int64
	// Running bounds the instances of one driver that run at once; default four per processor, 8 at least.
	Running int
	// Waiting bounds the instances of one driver that wait in `request`, `send`, `http`, `call` or `connection`; default 32.
	Waiting int
	// VerifyTimeout is how long the start-up code of a file under verification may compute; default 5 s.
	VerifyTimeout time.Duration
	// VerifyWait bounds how long a file waits for its verification, as files are verified one at a time; default 30 s.
	VerifyWait time.Duration
	// Now is the wall clock that drivers see; nil: the machine's.
	Now func() time.Time
	// InstanceCalls is how many calls an instance serves before another takes its place; 0: as many as package wasm says. With
	// 1 each call has a fresh one.
	InstanceCalls int
	Limits        CallLimits
	Logger        *slog.Logger
	Metrics       *metrics.Set
}

// CallLimits bound what one call of a driver may do. What is over a limit is refused with -5, or -4 where it is a size,
// and counted. A zero field means its default.
type CallLimits struct {
	// LogLines and LogBytes: default 64 lines, 16 KiB.
	LogLines, LogBytes int
	// LogLineBytes: default 1 KiB; a longer line is cut.
	LogLineBytes int
	// Sends counts send, request and publish together; default 256. SendBytes is the size of one; default 256 KiB.
	Sends, SendBytes int
	// HTTPs, TwinCalls, Connections: requests by http, call and connection; default 16, 32, 4.
	HTTPs, TwinCalls, Connections int
	// HTTPBytes is the size of an http answer's body; default 1 MiB. Requests are bounded by SendBytes.
	HTTPBytes int
	// Events, Timers, Discoveries, Subscriptions: default 64, 64, 256, 64.
	Events, Timers, Discoveries, Subscriptions int
	// Changes of properties: default 1,024.
	Changes int
	// MemoryBytes of the driver's private state, default 64 KiB; ValueBytes of one property, event or timer, default 64 KiB.
	MemoryBytes, ValueBytes int
	// EffectBytes of all changes, events, timers and discoveries together, default 1 MiB.
	EffectBytes int
	// OutputBytes of a command's result, and of describe; default 256 KiB.
	OutputBytes int
	// HostCalls of all capabilities together; default 20,000.
	HostCalls int
}

func (l CallLimits) withDefaults() CallLimits {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&l.LogLines, 64}, {&l.LogBytes, 16 << 10}, {&l.LogLineBytes, 1 << 10}, {&l.Sends, 256}, {&l.SendBytes, 256 << 10},
		{&l.HTTPs, 16}, {&l.TwinCalls, 32}, {&l.Connections, 4}, {&l.HTTPBytes, 1 << 20}, {&l.Events, 64}, {&l.Timers, 64},
		{&l.Discoveries, 256}, {&l.Subscriptions, 64}, {&l.Changes, 1024}, {&l.MemoryBytes, 64 << 10},
		{&l.ValueBytes, 64 << 10}, {&l.EffectBytes, 1 << 20}, {&l.OutputBytes, 256 << 10}, {&l.HostCalls, 20_000},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return l
}

// Sandbox runs drivers: one per node. Safe for concurrent use.
type Sandbox struct {
	options SandboxOptions
	runtime *wasm.Runtime
	logger  *slog.Logger
	refused *refusals
	engine  engine
	spare   spare
	uploads *uploads
}

// NewSandbox starts a sandbox. Close it, after its runners.
func NewSandbox(o SandboxOptions) (*Sandbox, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.VerifyTimeout == 0 {
		o.VerifyTimeout = 5 * time.Second
	}
	if o.VerifyWait == 0 {
		o.VerifyWait = 30 * time.Second
	}
	o.Limits = o.Limits.withDefaults()
	runtime, err := wasm.NewRuntime(wasm.Options{CacheDir: o.CacheDir, Compiler: o.Compiler, MemoryBudget: o.MemoryBudget,
		Hosts: []wasm.HostModule{hostModule(), js.HostModule()}, Now: o.Now, Logger: o.Logger, Metrics: o.Metrics})
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	return &Sandbox{options: o, runtime: runtime, logger: o.Logger, refused: newRefusals(o.Metrics), uploads: newUploads(o.VerifyWait)}, nil
}

// now is the time that drivers see.
func (s *Sandbox) now() time.Time {
	if s.options.Now == nil {
		return time.Now()
	}
	return s.options.Now()
}

// GuestBytes is the memory of all instances now.
func (s *Sandbox) GuestBytes() int64 { return s.runtime.GuestBytes() }

// Close ends the sandbox.
func (s *Sandbox) Close() error {
	return errors.Join(s.spare.close(), s.engine.close(), s.runtime.Close())
}

// Verify checks a file at its upload, a module or a JavaScript source: what Check does, then that it compiles and that its start-up code ends within
// its memory and VerifyTimeout. It may take seconds. Files come one at a time: a file waits for those before it, for VerifyWait and
// behind waitMost others at most. Past that, and where the machine is too busy to compile it, the error is ErrBusy. Any other is a
// sentence for whoever uploads, or the end of ctx.
func (s *Sandbox) Verify(ctx context.Context, file []byte) (*Manifest, error) {
	over, err := s.uploads.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer over()
	r, err := s.load(ctx, file)
	if errors.Is(err, wasm.ErrSlow) {
		return nil, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := newTrying(ctx, s.options.VerifyTimeout)
	defer cancel()
	in, err := r.pool.Acquire(ctx, "")
	if err != nil {
		_ = r.Close()
		return nil, startError(err, s.options.VerifyTimeout)
	}
	r.pool.Release(in)
	s.spare.keep(sha256.Sum256(file), r)
	return r.manifest, nil
}

func startError(err error, limit time.Duration) error {
	var trap *wasm.Trap
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the module's start-up code did not end within %s: %w", limit, err)
	case errors.As(err, &trap):
		return fmt.Errorf("the module's start-up code crashed: %s: %w", trap.Reason, err)
	}
	return fmt.Errorf("the module does not start: %w", err)
}

// Load compiles a driver, or takes it from the cache, or what Verify left. Close the runner.
func (s *Sandbox) Load(ctx context.Context, file []byte) (Runner, error) {
	if r := s.spare.take(sha256.Sum256(file)); r != nil {
		return r, nil
	}
	r, err := s.load(ctx, file)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (s *Sandbox) load(ctx context.Context, file []byte) (*runner, error) {
	if IsSource(file) {
		return s.loadSource(ctx, file)
	}
	c, err := check(file)
	if err != nil {
		return nil, err
	}
	metered, err := wasm.Meter(c.verified)
	if err != nil {
		return nil, err
	}
	module, err := s.runtime.Compile(ctx, metered, c.manifest.memoryBytes())
	if err != nil {
		return nil, err
	}
	pool := wasm.NewPool(module, wasm.PoolOptions{Entries: []string{entryHandle}, Running: s.options.Running,
		Parked: s.options.Waiting, RecycleCalls: s.options.InstanceCalls})
	return &runner{sandbox: s, manifest: c.manifest, model: c.model, module: module, pool: pool}, nil
}
