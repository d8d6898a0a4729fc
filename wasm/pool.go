package wasm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// PoolOptions of a Pool.
type PoolOptions struct {
	// Entries are the exported functions that are called; Instance.Call takes their index.
	Entries []string
	// Running bounds the instances that run at once; 0 means four per processor, 8 at least. More calls wait.
	Running int
	// Parked bounds the instances that wait in a host function (Instance.Park) beside those; 0 means 32.
	Parked int
	// RecycleBytes: an instance whose memory has grown past it is not used again; 0 means three quarters of the cap.
	RecycleBytes int64
	// RecycleCalls: an instance that has served so many calls is not used again, so that what it leaks or remembers does
	// not last; 0 means 100,000.
	RecycleCalls int
	// MemoryBytes caps each instance's memory below what the module was compiled for; 0 means as much.
	MemoryBytes int64
	// Init, where not nil, prepares the first instance after the module's `_initialize`: it may Call the entries, Read and
	// Write, for no tenant in particular. Then its memory and global variables are frozen, and all instances begin as
	// copies. What cannot be frozen (see DESIGN.md) is prepared one by one. Its error is that of Acquire.
	Init func(ctx context.Context, in *Instance) error
}

// ErrClosed is the error of a pool that was closed.
var ErrClosed = errors.New("the pool is closed")

// Pool keeps a module's instances, apart by tenant: an instance that has served one is never given to another. Safe
// for concurrent use.
type Pool struct {
	module  *Module
	options PoolOptions
	// Four semaphores, taken in this order: few counts instances of tenants that keep being stopped, out those that are
	// checked out, slots those that run, parked those that wait. Whoever waits for slots holds no parked, so that the running
	// ones, which wait for it, go on.
	few    chan struct{}
	out    chan struct{}
	slots  chan struct{}
	parked chan struct{}

	// image is what instances begin as, once freezing let somebody make it. plain: they are initialised one by one.
	freezing chan struct{}
	image    atomic.Pointer[image]
	plain    atomic.Bool
	// typical is what an instance of the image takes of the memory budget, a moving average.
	typical atomic.Int64

	mu    sync.Mutex
	idle  map[string][]*Instance // the last one was used last
	idles int
	live  int // idle, running, parked, being made
	// blamed are the tenants whose calls were stopped or crashed lately.
	blamed map[string]strikes
	// blaming: there are such.
	blaming atomic.Bool
	closed  bool
	empty   chan struct{} // closed when closed and live is 0
}

// NewPool returns an empty pool. Close it before the module.
func NewPool(m *Module, o PoolOptions) *Pool {
	if o.Running == 0 {
		o.Running = max(8, 4*runtime.GOMAXPROCS(0))
	}
	if o.Parked == 0 {
		o.Parked = 32
	}
	if o.MemoryBytes == 0 || o.MemoryBytes > m.memoryBytes {
		o.MemoryBytes = m.memoryBytes
	}
	if o.RecycleBytes == 0 {
		o.RecycleBytes = o.MemoryBytes / 4 * 3
	}
	if o.RecycleCalls == 0 {
		o.RecycleCalls = 100_000
	}
	p := &Pool{module: m, options: o, idle: map[string][]*Instance{}, blamed: map[string]strikes{}, few: make(chan struct{}, (o.Running+1)/2),
		out:   make(chan struct{}, o.Running+o.Parked),
		slots: make(chan struct{}, o.Running), parked: make(chan struct{}, o.Parked), freezing: make(chan struct{}, 1), empty: make(chan struct{})}
	p.typical.Store(typicalBytes)
	p.plain.Store(!m.info.freezable())
	m.runtime.mu.Lock()
	m.runtime.pools[p] = struct{}{}
	m.runtime.mu.Unlock()
	return p
}

// Acquire checks an instance out, made new where the tenant has none idle. It waits for a slot until ctx ends. Errors:
// ErrClosed, ErrMemory, the context's, and those of Instance.Call where the module's initialisation fails.
func (p *Pool) Acquire(ctx context.Context, tenant string) (*Instance, error) {
	few := p.blaming.Load() && p.incorrigible(tenant)
	if few {
		if err := p.take(ctx, p.few); err != nil {
			return nil, fmt.Errorf("wait for an instance: %w", err)
		}
	}
	in, err := p.acquire(ctx, tenant)
	switch {
	case err == nil:
		in.few = few
	case few:
		<-p.few
	}
	return in, err
}

func (p *Pool) acquire(ctx context.Context, tenant string) (*Instance, error) {
	if err := p.take(ctx, p.out); err != nil {
		return nil, fmt.Errorf("wait for an instance: %w", err)
	}
	if err := p.take(ctx, p.slots); err != nil {
		<-p.out
		return nil, fmt.Errorf("wait for an instance: %w", err)
	}
	in, err := p.checkOut(ctx, tenant)
	if err != nil {
		<-p.slots
		<-p.out
		return nil, err
	}
	return in, nil
}

// checkOut takes an idle instance or makes one; the caller has its places.
func (p *Pool) checkOut(ctx context.Context, tenant string) (*Instance, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	if list := p.idle[tenant]; len(list) > 0 {
		in := list[len(list)-1]
		list[len(list)-1] = nil
		p.idle[tenant] = list[:len(list)-1]
		p.idles--
		in.meter.strikes = p.struck(tenant)
		p.mu.Unlock()
		in.slot = true
		return in, nil
	}
	var evicted *Instance
	if p.live >= p.options.Running+p.options.Parked {
		evicted = p.evict()
	}
	p.live++
	strikes := p.struck(tenant)
	p.mu.Unlock()
	if evicted != nil {
		p.discard(evicted)
	}
	in, err := p.make(ctx, tenant)
	if err != nil {
		p.gone()
		return nil, err
	}
	in.meter.strikes = strikes
	return in, nil
}

// take gets a place in a semaphore.
func (p *Pool) take(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	default:
	}
	p.module.runtime.stats.waits.Inc()
	var late <-chan time.Time
	if deadline, ok := ctx.Deadline(); ok {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case places <- struct{}{}:
		return nil
	case <-late:
		return context.DeadlineExceeded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// evict takes the instance out that was idle longest; nil where none is.
func (p *Pool) evict() *Instance {
	var oldest *Instance
	for _, list := range p.idle {
		if len(list) > 0 && (oldest == nil || list[0].lastUsed < oldest.lastUsed) {
			oldest = list[0]
		}
	}
	if oldest != nil {
		p.drop(oldest.tenant, 1)
	}
	return oldest
}

// drop takes the n first idle instances of a tenant out of its list.
func (p *Pool) drop(tenant string, n int) {
	list := p.idle[tenant]
	p.idles -= n
	if n == len(list) {
		delete(p.idle, tenant)
		return
	}
	rest := copy(list, list[n:])
	clear(list[rest:])
	p.idle[tenant] = list[:rest]
}

// Release gives an instance back. One that trapped, was stopped or has grown too large is thrown away.
func (p *Pool) Release(in *Instance) {
	in.Data = nil
	slot, few := in.slot, in.few
	in.slot, in.few = false, false
	r := p.module.runtime
	keep := in.Sound() && r.memory.used.Load() <= r.memory.limit
	if keep && (in.meter.used > 0 || in.calls%recountCalls == 1) {
		keep = in.recount()
		p.typical.Store((3*p.typical.Load() + in.memory.charged) / 4)
	}
	in.lastUsed = r.clock.Load()
	p.mu.Lock()
	keep = keep && !p.closed
	if in.broken {
		p.strike(in.tenant)
	}
	if keep {
		p.idle[in.tenant] = append(p.idle[in.tenant], in)
		p.idles++
	}
	p.mu.Unlock()
	if !keep {
		p.discard(in)
	}
	if slot {
		<-p.slots
	}
	<-p.out
	if few {
		<-p.few
	}
}

func (p *Pool) discard(in *Instance) {
	in.destroy()
	p.module.runtime.stats.discarded.Inc()
	p.gone()
}

func (p *Pool) gone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live--
	if p.closed && p.live == 0 {
		close(p.empty)
	}
}

// trim throws away what was idle since before.
func (p *Pool) trim(before int64) {
	var old []*Instance
	p.mu.Lock()
	for tenant, list := range p.idle {
		n := 0
		for n < len(list) && list[n].lastUsed < before {
			n++
		}
		if n > 0 {
			old = append(old, list[:n]...)
			p.drop(tenant, n)
		} else if len(list) == 0 {
			delete(p.idle, tenant)
		}
	}
	for tenant, s := range p.blamed {
		if s.now() == 0 {
			delete(p.blamed, tenant)
		}
	}
	p.blaming.Store(len(p.blamed) > 0)
	p.mu.Unlock()
	for _, in := range old {
		p.discard(in)
	}
}

// Live is the number of instances that there are, and how many of them are idle.
func (p *Pool) Live() (live, idle int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live, p.idles
}

// Close refuses new calls, waits for the running ones and frees all instances.
func (p *Pool) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		<-p.empty
		return nil
	}
	p.closed = true
	var idle []*Instance
	for _, list := range p.idle {
		idle = append(idle, list...)
	}
	p.idle, p.idles = nil, 0
	if p.live == 0 {
		close(p.empty)
	}
	p.mu.Unlock()
	for _, in := range idle {
		p.discard(in)
	}
	<-p.empty
	r := p.module.runtime
	if im := p.image.Swap(nil); im != nil {
		im.drop(&r.memory)
	}
	r.mu.Lock()
	delete(r.pools, p)
	r.mu.Unlock()
	return nil
}

// Park is called by a host function that is about to wait: it lets another call have this one's place meanwhile. So
// many calls may be parked at once as the pool's options say; more wait here, until the call's context ends. Each Park
// without an error needs its Unpark.
func (in *Instance) Park(ctx context.Context) error {
	in.waits()
	if err := in.pool.take(ctx, in.pool.parked); err != nil {
		return fmt.Errorf("wait to park: %w", err)
	}
	if in.slot {
		in.slot = false
		<-in.pool.slots
	}
	return nil
}

// Unpark takes a place again. Where the context ends before there is one, the call goes on without: it is about to be
// stopped.
func (in *Instance) Unpark(ctx context.Context) {
	<-in.pool.parked
	in.slot = in.pool.take(ctx, in.pool.slots) == nil
}
