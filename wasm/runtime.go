package wasm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Options of a Runtime.
type Options struct {
	// CacheDir holds compiled code across restarts; made with mode 0700. Empty: compiled code is kept in memory only.
	// Whoever can write there can run code in this process.
	CacheDir string
	// CacheBytes bounds the compiled code in CacheDir: what was used least recently is removed; 0 means 1 GiB.
	CacheBytes int64
	// Compiler is the command line of a program that calls CompileChild with the two arguments that are added to it, its
	// standard input and its standard output. It compiles what is not in the cache yet, so that a module that the limits of
	// Verify let pass harms a child process at most. Empty, or without CacheDir: modules are compiled in this process.
	// CompilerEnv is its environment.
	Compiler, CompilerEnv []string
	// CompileProcessor bounds the time of a processor that it may take for one module; 0 means 20 s.
	CompileProcessor time.Duration
	// CompileTime bounds how long it may take in all, however little of a processor it has; 0 means 2 minutes.
	CompileTime time.Duration
	// MemoryBudget bounds the bytes that all modules' memories take together, see Runtime.GuestBytes; 0 means 1 GiB.
	MemoryBudget int64
	// MemoryMappings bounds the mappings that they take, up to two each; 0 means three quarters of what the system allows.
	MemoryMappings int64
	// Hosts are the functions that modules may import, beside the WASI stubs.
	Hosts []HostModule
	// IdleTimeout is how long an instance may wait unused in its pool; 0 means a minute.
	IdleTimeout time.Duration
	// Now is the wall clock that guests see; nil: the machine's. Their monotonic clock is always the machine's.
	Now     func() time.Time
	Logger  *slog.Logger
	Metrics *metrics.Set
}

// HostModule is a module of functions that the host offers.
type HostModule struct {
	Name      string
	Functions []HostFunction
}

// HostFunction is called by guests, on the goroutine of the call. stack holds the parameters and takes the result in
// its first place. It may block until the call's context ends, and may panic with an error: that is a trap. What it
// computes is to be bounded, and short: guests are not stopped meanwhile.
type HostFunction struct {
	Name      string
	Signature Signature
	Call      func(in *Instance, stack []uint64)
}

// Runtime compiles and runs modules. Safe for concurrent use.
type Runtime struct {
	options Options
	start   time.Time
	logger  *slog.Logger
	engine  wazero.Runtime
	cache   wazero.CompilationCache
	code    codeCache
	memory  budget
	trimmer trimmer
	// clock is a coarse one, of trimTick, in nanoseconds since 1970.
	clock atomic.Int64
	stats *stats
	// lanes bounds the calls that compute for long.
	lanes chan struct{}
	// compiling lets one module at a time be compiled, so that uploads leave processors to the calls.
	compiling chan struct{}

	mu    sync.Mutex
	pools map[*Pool]struct{}
}

// NewRuntime starts a runtime. Close it.
func NewRuntime(o Options) (*Runtime, error) {
	if o.MemoryBudget == 0 {
		o.MemoryBudget = 1 << 30
	}
	if o.MemoryMappings == 0 {
		o.MemoryMappings = mapLimit()
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = time.Minute
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = cacheBytes
	}
	if o.CompileProcessor == 0 {
		o.CompileProcessor = compileProcessor
	}
	if o.CompileTime == 0 {
		o.CompileTime = compileTime
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Runtime{options: o, start: time.Now(), logger: o.Logger, compiling: make(chan struct{}, 1),
		lanes: make(chan struct{}, max(1, goruntime.GOMAXPROCS(0)-1)), pools: map[*Pool]struct{}{}}
	r.memory.limit, r.memory.mapLimit = o.MemoryBudget, o.MemoryMappings
	r.stats = newStats(o.Metrics, r)
	r.code = codeCache{dir: o.CacheDir, limit: o.CacheBytes, stats: r.stats}
	config := engineConfig()
	if o.CacheDir != "" {
		cache, err := openCache(o.CacheDir)
		if err != nil {
			return nil, fmt.Errorf("compilation cache: %w", err)
		}
		r.cache = cache
		r.sweepCode()
		config = config.WithCompilationCache(cache)
	}
	ctx := context.Background()
	r.engine = wazero.NewRuntimeWithConfig(ctx, config)
	for _, host := range append([]HostModule{meterHost(), wasiModule()}, o.Hosts...) {
		if err := r.addHost(ctx, host); err != nil {
			return nil, errors.Join(fmt.Errorf("host module %s: %w", host.Name, err), r.engine.Close(ctx))
		}
	}
	r.clock.Store(time.Now().UnixNano())
	r.trimmer.start(r.tick)
	return r, nil
}

// sweepCode keeps the cache within its bound. Where that fails it is only larger than it should be.
func (r *Runtime) sweepCode() {
	if err := r.code.sweep(); err != nil {
		r.logger.Warn("the cache of compiled code is not tidied", "dir", r.options.CacheDir, "error", err)
	}
}

func openCache(dir string) (wazero.CompilationCache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	return wazero.NewCompilationCacheWithDir(dir)
}

func (r *Runtime) addHost(ctx context.Context, host HostModule) error {
	b := r.engine.NewHostModuleBuilder(host.Name)
	for _, f := range host.Functions {
		call := f.Call
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, mod api.Module, stack []uint64) {
			in := instanceOf(ctx, mod)
			in.hostCalled()
			call(in, stack)
		}), apiTypes(f.Signature.Params), apiTypes(f.Signature.Results)).Export(f.Name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// meterHost has the function that metered modules call.
func meterHost() HostModule {
	return HostModule{Name: meterModule, Functions: []HostFunction{{Name: meterFunction,
		Signature: Signature{Params: []ValueType{I32}, Results: []ValueType{I64}},
		Call:      func(in *Instance, stack []uint64) { stack[0] = uint64(in.refill(uint32(stack[0]))) },
	}}}
}

func apiTypes(types []ValueType) []api.ValueType {
	out := make([]api.ValueType, len(types))
	for i, t := range types {
		out[i] = api.ValueType(t)
	}
	return out
}

// Module is a compiled module.
type Module struct {
	runtime  *Runtime
	compiled wazero.CompiledModule
	info     *Info
	lines    *lines
	// memoryBytes caps each instance's memory.
	memoryBytes int64
}

// Info is what is in the module.
func (m *Module) Info() *Info { return m.info }

// Compile type-checks and compiles a module whose instances may have up to memoryBytes of memory. It takes about half
// a second for 3 MB and waits for other compilations, or some 30 ms and waits for nobody where a child process has left the
// code in the cache. Errors that lie in the module are *Refusal. Close the module.
func (r *Runtime) Compile(ctx context.Context, m *Metered, memoryBytes int64) (*Module, error) {
	if need := int64(m.info.MemoryMin) * PageBytes; need > memoryBytes {
		return nil, refuse("the module starts with %d bytes of memory; its cap is %d", need, memoryBytes)
	}
	start := time.Now()
	apart := len(r.options.Compiler) > 0 && r.options.CacheDir != ""
	if !apart || !r.code.has(m.file) {
		select {
		case r.compiling <- struct{}{}:
			defer func() { <-r.compiling }()
		case <-ctx.Done():
			return nil, fmt.Errorf("compile: %w", ctx.Err())
		}
		start = time.Now()
		if apart {
			if err := r.compileApart(ctx, m.file); err != nil {
				return nil, err
			}
		}
	}
	compiled, err := r.compile(ctx, m.file)
	if err != nil {
		return nil, refuse("the module does not compile: %s", firstLine(err.Error()))
	}
	r.stats.compileSeconds.UpdateDuration(start)
	return &Module{runtime: r, compiled: compiled, info: m.info, lines: m.lines, memoryBytes: memoryBytes}, nil
}

// compile keeps a panic of the compiler, which strangers' bytes might find, from ending the process.
func (r *Runtime) compile(ctx context.Context, file []byte) (compiled wazero.CompiledModule, err error) {
	defer func() {
		if p := recover(); p != nil {
			r.logger.Error("the compiler panicked", "panic", fmt.Sprint(p))
			compiled, err = nil, fmt.Errorf("the compiler gave up: %v", p)
		}
	}()
	return r.engine.CompileModule(ctx, file)
}

// Close frees the compiled code. Close the module's pools first.
func (m *Module) Close() error { return m.compiled.Close(context.Background()) }

// GuestBytes is what all instances and their frozen images take now, as far as the system tells: the pages that each has
// touched. What runs or was just made is an estimate.
func (r *Runtime) GuestBytes() int64 { return r.memory.used.Load() }

// Close ends the runtime. All pools are to be closed before.
func (r *Runtime) Close() error {
	r.trimmer.close()
	ctx := context.Background()
	err := r.engine.Close(ctx)
	if r.cache != nil {
		err = errors.Join(err, r.cache.Close(ctx))
	}
	return err
}

// tick is called now and then.
func (r *Runtime) tick(now time.Time) {
	r.clock.Store(now.UnixNano())
	r.trim(now.Add(-r.options.IdleTimeout).UnixNano())
}

// trim closes instances that were not used since before.
func (r *Runtime) trim(before int64) {
	r.mu.Lock()
	pools := make([]*Pool, 0, len(r.pools))
	for p := range r.pools {
		pools = append(pools, p)
	}
	r.mu.Unlock()
	for _, p := range pools {
		p.trim(before)
	}
}

// reclaim closes all idle instances where the budget does not have n bytes, or an instance's mappings, left.
func (r *Runtime) reclaim(n int64) {
	if r.memory.short(n) {
		r.trim(math.MaxInt64)
	}
}
