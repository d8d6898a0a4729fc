package wasm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// outputBytes bounds what is kept of a guest's standard output and error per call: so much of its beginning, where a
// crash says why, and as much of its end.
const outputBytes = 2048

// Instance is one running copy of a module, checked out of its pool. One goroutine at a time uses it.
type Instance struct {
	// Data is for the host functions of the running call; the pool clears it.
	Data any

	pool     *Pool
	tenant   string
	mod      api.Module
	mem      api.Memory
	memory   *guestMemory
	entries  []api.Function
	stack    [8]uint64
	ctx      *callContext
	head     []byte
	tail     []byte
	broken   bool
	slot     bool  // holds one of the pool's slots
	few      bool  // and one of the few of those that keep being stopped
	lastUsed int64 // by the runtime's coarse clock, when it was released
	calls    int
	meter    meter
	parent   context.Context // of the running call
}

// ErrMemory is the error of a call for which there is no memory left in the budget.
var ErrMemory = errors.New("the memory budget for modules is used up")

// newInstance makes an instance, as a copy of the image or, where that is nil, by initialising it within ctx.
func newInstance(ctx context.Context, p *Pool, tenant string, im *image) (*Instance, error) {
	m := p.module
	r := m.runtime
	need := int64(m.info.MemoryMin) * PageBytes
	if need > p.options.MemoryBytes {
		return nil, refuse("the module starts with %d bytes of memory; its cap is %d", need, p.options.MemoryBytes)
	}
	if im != nil {
		need = p.typical.Load()
	}
	r.reclaim(need)
	if r.memory.short(need) {
		r.memory.refused.Add(1)
		return nil, ErrMemory
	}
	in := &Instance{pool: p, tenant: tenant, slot: true}
	in.memory = &guestMemory{budget: &r.memory, cap: p.options.MemoryBytes, image: im}
	in.ctx = &callContext{in: in}
	err := error(ErrMemory)
	if im == nil || in.memory.charge(need) {
		err = in.start(ctx, im)
	}
	if err != nil {
		in.destroy()
		return nil, err
	}
	r.stats.created.Inc()
	return in, nil
}

// start instantiates, and initialises what does not begin as a copy.
func (in *Instance) start(ctx context.Context, im *image) error {
	if err := in.run(ctx, in.instantiate); err != nil {
		return err
	}
	in.mem = in.mod.Memory()
	if im == nil {
		if err := in.initialise(ctx); err != nil {
			return fmt.Errorf("initialise: %w", err)
		}
	} else if err := im.thaw(in); err != nil {
		return err
	}
	for _, name := range in.pool.options.Entries {
		fn := in.mod.ExportedFunction(name)
		if fn == nil {
			return fmt.Errorf("the module has no export %q", name)
		}
		in.entries = append(in.entries, fn)
	}
	if im == nil && in.pool.options.Init != nil {
		if err := in.pool.options.Init(ctx, in); err != nil {
			return fmt.Errorf("initialise: %w", err)
		}
		in.Data = nil
	}
	return nil
}

// initialise runs what a module runs before its first call.
func (in *Instance) initialise(ctx context.Context) error {
	in.pool.module.runtime.stats.initialised.Inc()
	for _, name := range append(MeterStart(), "_initialize") {
		fn := in.mod.ExportedFunction(name)
		if fn == nil {
			continue
		}
		if err := in.run(ctx, func() error { return fn.CallWithStack(in.ctx, in.stack[:]) }); err != nil {
			return err
		}
	}
	return nil
}

func (in *Instance) instantiate() (err error) {
	defer func() {
		// wazero panics where the first memory cannot be had: somebody else took the rest of the budget.
		switch r := recover(); {
		case r == nil:
		case in.memory.size < int64(in.pool.module.info.MemoryMin)*PageBytes:
			err = ErrMemory
		default:
			err = fmt.Errorf("instantiate: %v", r)
		}
	}()
	m := in.pool.module
	mod, err := m.runtime.engine.InstantiateModule(experimental.WithMemoryAllocator(in.ctx, in.memory), m.compiled,
		wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err == nil {
		in.mod = mod
	}
	return err
}

// Call runs the entry of that index (see PoolOptions.Entries) and returns its first result. The call ends within
// milliseconds when ctx does, or its Deadline has passed, even in an endless loop; a context that knows its Deadline and
// nothing else is enough. Errors: *Trap, which wraps the context's error where that ended the call. After an error the
// instance is only good for being released.
func (in *Instance) Call(ctx context.Context, entry int, args ...uint64) (uint64, error) {
	copy(in.stack[:], args)
	in.calls++
	in.head, in.tail = in.head[:0], in.tail[:0]
	in.pool.module.runtime.stats.calls.Inc()
	if err := in.callEntry(ctx, entry); err != nil {
		return 0, err
	}
	return in.stack[0], nil
}

func (in *Instance) callEntry(ctx context.Context, entry int) error {
	if in.broken {
		return errors.New("the instance is broken")
	}
	if err := in.begin(ctx); err != nil {
		return err
	}
	err := in.entries[entry].CallWithStack(in.ctx, in.stack[:])
	return in.finish(err)
}

// Sound says whether the instance may serve another call before it is released.
func (in *Instance) Sound() bool {
	return !in.broken && !in.mod.IsClosed() && !in.outgrown() && in.calls < in.pool.options.RecycleCalls
}

// run is callEntry for anything else that runs guest code.
func (in *Instance) run(ctx context.Context, fn func() error) error {
	if err := in.begin(ctx); err != nil {
		return err
	}
	return in.finish(fn())
}

// begin starts a call. It does not look at the clock, which costs as much as all the rest: a short call, even one whose
// deadline has passed, ends before anybody would know.
func (in *Instance) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("call: %w", err)
	}
	in.parent = ctx
	in.meter.whole, in.meter.used, in.meter.start = false, 0, time.Time{}
	return nil
}

// finish says what came of a call.
func (in *Instance) finish(err error) error {
	in.leaveLane()
	if err != nil {
		in.broken = true
		in.atone()
	}
	in.parent = nil
	if err == nil {
		return nil
	}
	stats := in.pool.module.runtime.stats
	switch {
	case in.meter.stopped != nil:
		stats.stopped.Inc()
	case errors.Is(err, ErrMemory):
		return err
	default:
		stats.traps.Inc()
	}
	return in.newTrap(err)
}

// instanceOf finds the instance of a host function's call.
func instanceOf(ctx context.Context, mod api.Module) *Instance {
	in, ok := ctx.Value(instanceKey{}).(*Instance)
	if !ok {
		panic(errors.New("a module was called outside of its pool"))
	}
	if in.mem == nil {
		in.mem = mod.Memory()
	}
	return in
}

// Context is the running call's, as the caller gave it. For host functions, on the goroutine of the call.
func (in *Instance) Context() context.Context {
	if in.parent == nil {
		return context.Background()
	}
	return in.parent
}

// Read gives the guest's bytes themselves, valid until the host function returns; false where they are not its memory.
func (in *Instance) Read(ptr, n uint32) ([]byte, bool) { return in.mem.Read(ptr, n) }

// Write copies b into the guest's memory; false where it does not fit there.
func (in *Instance) Write(ptr uint32, b []byte) bool { return in.mem.Write(ptr, b) }

// MemoryBytes is the size of the guest's memory.
func (in *Instance) MemoryBytes() int64 { return in.memory.size }

// Output is what the guest wrote to its standard output and error in the last call: the beginning and the end of it, 2
// KiB each. It is valid until the next call.
func (in *Instance) Output() []byte {
	if len(in.tail) == 0 {
		return in.head
	}
	out := append(make([]byte, 0, len(in.head)+len(in.tail)), in.head...)
	return append(out, in.tail...)
}

func (in *Instance) write(b []byte) {
	if room := outputBytes - len(in.head); room > 0 {
		n := min(room, len(b))
		in.head = append(in.head, b[:n]...)
		b = b[n:]
	}
	if len(b) >= outputBytes {
		in.tail = append(in.tail[:0], b[len(b)-outputBytes:]...)
		return
	}
	if over := len(in.tail) + len(b) - outputBytes; over > 0 {
		in.tail = in.tail[:copy(in.tail, in.tail[over:])]
	}
	in.tail = append(in.tail, b...)
}

// destroy frees all that the instance holds. It must not run.
func (in *Instance) destroy() {
	if in.mod != nil {
		_ = in.mod.Close(context.Background())
	}
	in.memory.Free() // where the module did not come to be, wazero does not
	in.broken = true
}
