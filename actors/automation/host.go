package automation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/perslot"
	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	"github.com/polluxhq/pollux/storage"
)

// Kinds of the actors of this package.
const (
	KindSchedule = "schedule"
	KindRule     = "rule"
)

// Tables of this package.
const (
	// TableSchedules and TableRules: id → pb.Schedule, pb.Rule: what was configured.
	TableSchedules storage.Table = "schedule"
	TableRules     storage.Table = "rule"
	// TableUnits: address → actorv1.Unit.
	TableUnits storage.Table = "unit"
	// TableInstances: address, zero, subject → actorv1.Instance.
	TableInstances storage.Table = "instance"
	// TableRuns: address, zero, number (16 hexadecimal digits) → pb.Run.
	TableRuns storage.Table = "run"
)

const (
	// maxInbox bounds the messages that wait for a unit's turn.
	maxInbox = 4096
	// maxBatch is how many a turn takes.
	maxBatch = 500
	// maxRunning bounds the runs under way on a node.
	maxRunning = 512
	// idleAfter is when a unit that nobody needs leaves memory.
	idleAfter = time.Minute
	// purgeBatch is how many records of what a deleted unit left go in one transaction.
	purgeBatch = 1000
	// releaseWithin is what a unit that leaves gets for the step that it is at.
	releaseWithin = 5 * time.Second
)

// Options of a Host.
type Options struct {
	Store *storage.Store
	World World
	// Call brings an envelope to its owner; see cluster.Node.Call.
	Call func(env *cluster.Envelope, done func(cluster.Reply))
	// Owned gives the record of a slot that this node owns, or nil.
	Owned func(cluster.Slot) *cluster.Ownership
	// LeaseValid says whether this node may act now.
	LeaseValid func() bool
	// Note tells the timers of a slot that a wake record is due then, in milliseconds since 1970; WakeKey is the key of such a
	// record in table WakeTable.
	Note      func(slot cluster.Slot, due int64)
	WakeKey   func(slot cluster.Slot, address string, due int64) string
	WakeTable storage.Table
	// Now is the present. Stepped is by how many milliseconds its clock was set since the node started, beside the time that passed.
	Now     func() time.Time
	Stepped func() int64
	// JournalRead says whether all members read the journal's entries in the log; nil: nobody does. Cheap.
	JournalRead func() bool
	// Node is this node's id.
	Node    string
	Logger  *slog.Logger
	Metrics *metrics.Set
}

// Host runs the units of the slots that this node owns, and is the way to units wherever they are. Safe for concurrent use.
type Host struct {
	o Options

	ctx    context.Context
	stop   context.CancelFunc
	mu     sync.Mutex
	units  map[string]*unit
	closed bool
	wg     sync.WaitGroup
	runs   chan struct{} // a token for each that is under way
	clock  uint64        // tells this node's clock, as it runs since the start, from all others

	programs *programs

	firings, evaluations, steps, failures, left, storms *metrics.Counter
}

// New makes a host. Close it.
func New(o Options) (*Host, error) {
	p, err := newPrograms()
	if err != nil {
		return nil, err
	}
	h := &Host{o: o, units: map[string]*unit{}, runs: make(chan struct{}, maxRunning), programs: p, clock: mrand.Uint64()}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.count()
	o.Metrics.GetOrCreateGauge("pollux_automation_active", func() float64 {
		h.mu.Lock()
		defer h.mu.Unlock()
		return float64(len(h.units))
	})
	return h, nil
}

// count makes the host's counters.
func (h *Host) count() {
	count := func(name string) *metrics.Counter { return h.o.Metrics.GetOrCreateCounter("pollux_automation_" + name) }
	h.firings, h.evaluations, h.steps = count("firings_total"), count("evaluations_total"), count("steps_total")
	h.failures, h.left = count("failed_steps_total"), count("left_out_total")
	h.storms = count("storms_total")
}

// Close stops everything without effect. Release the slots before.
func (h *Host) Close() {
	h.mu.Lock()
	h.closed = true
	h.stop()
	for _, u := range h.units {
		u.end(true)
	}
	h.mu.Unlock()
	h.wg.Wait()
}

// Address of a unit.
func Address(kind, id string) string { return kind + "/" + id }

// Target is the address as the router wants it. It is no twin's id.
func Target(kind, id string) cluster.Target { return cluster.Target{Kind: kind, ID: Address(kind, id)} }

// IsKind says whether actors of a kind are this package's.
func IsKind(kind string) bool { return kind == KindSchedule || kind == KindRule || kind == KindAlarm }

// IsAddress says whether an actor's id is the address of a unit, which no twin's id is.
func IsAddress(id string) bool { _, _, ok := cutAddress(id); return ok }

func cutAddress(address string) (kind, id string, ok bool) {
	kind, id, ok = strings.Cut(address, "/")
	return kind, id, ok && IsKind(kind) && strings.Contains(id, "/")
}

// SlotOf gives the slot of a unit.
func SlotOf(address string) cluster.Slot { return cluster.SlotOf(address) }

// FirstWake is the due time of the wake record that is written with a unit's configuration: before all others.
const FirstWake = 1

// Born are the writes that bring a unit to life, or have it look at its configuration, whoever owns its slot.
func (h *Host) Born(kind, id string) storage.Write {
	a := Address(kind, id)
	return storage.Write{Table: h.o.WakeTable, Key: h.o.WakeKey(SlotOf(a), a, FirstWake), Value: []byte{1}, Quiet: true}
}

// Buried are the writes that go with the removal of a unit's configuration: one of the same id that comes after it begins from nothing.
func (h *Host) Buried(kind, id string) []storage.Write {
	return []storage.Write{h.Born(kind, id), {Table: TableUnits, Key: Address(kind, id), Quiet: true}}
}

// Handle takes a call for a unit of a slot that this node owns. It does not block; done is called exactly once.
func (h *Host) Handle(env *cluster.Envelope, own *cluster.Ownership, done func(cluster.Reply)) {
	if err := h.pass(env.Target.ID, own, item{env: env, done: done}); err != nil {
		done(cluster.Reply{Err: fmt.Errorf("%s: %w", env.Target.ID, err)})
	}
}

// Wake tells a unit that a wake record of its is due. It does not block.
func (h *Host) Wake(address string, due int64) {
	own := h.o.Owned(SlotOf(address))
	if own == nil {
		return
	}
	if err := h.pass(address, own, item{woken: due}); err != nil {
		h.o.Note(SlotOf(address), h.o.Now().Add(20*time.Millisecond).UnixMilli()) // look again
	}
}

// Changed tells that the configuration of a unit was written or removed.
func (h *Host) Changed(kind, id string) {
	a := Address(kind, id)
	if h.o.Owned(SlotOf(a)) == nil {
		return
	}
	h.o.Note(SlotOf(a), 0) // its first wake record came with it
}

// pass gives an item to a unit, which is activated if need be.
func (h *Host) pass(address string, own *cluster.Ownership, x item) error {
	kind, id, ok := cutAddress(address)
	if !ok {
		return ErrNotFound
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("this node is stopping: %w", cluster.ErrUnavailable)
	}
	u := h.units[address]
	if u != nil && (u.leaving.Load() || u.own.Since != own.Since) {
		// Its last life is about to end; whoever calls comes again.
		return fmt.Errorf("it is moving: %w", cluster.ErrOverloaded)
	}
	if u == nil {
		u = newUnit(h, kind, id, own)
		h.units[address] = u
	}
	return u.take(x)
}

// Release lets go of the units of some slots: the steps that run come to their end within 5 s, and what follows is the next owner's.
// lost: they stop without effect. done is called when none of them is left, after 8 s at the latest.
func (h *Host) Release(mine func(cluster.Slot) bool, lost bool, done func()) {
	h.mu.Lock()
	var ends []chan struct{}
	for _, u := range h.units {
		if mine(u.slot) {
			u.end(lost)
			ends = append(ends, u.ended)
		}
	}
	h.mu.Unlock()
	perslot.WhenEnded(ends, h.o.Logger, "units", done)
}

// forget takes a unit out that has ended.
func (h *Host) forget(u *unit) {
	h.mu.Lock()
	if h.units[u.address] == u {
		delete(h.units, u.address)
	}
	h.mu.Unlock()
}

// Sweep lets units go that nobody has needed for a while.
func (h *Host) Sweep() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, u := range h.units {
		if u.idle(h.o.Now()) {
			u.end(true)
		}
	}
}

func newCallID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// ask brings a message to a unit's owner and waits for the answer, or for ctx.
func ask[M proto.Message](ctx context.Context, h *Host, kind, id string, m proto.Message) (M, error) {
	var none M
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Minute)
	}
	env := &cluster.Envelope{ID: newCallID(), Target: Target(kind, id), Message: m, Deadline: deadline}
	began := time.Now()
	for {
		got := make(chan cluster.Reply, 1)
		h.o.Call(env, func(r cluster.Reply) { got <- r })
		select {
		case r := <-got:
			// What was configured a moment ago its owner may not have applied yet.
			again := errors.Is(r.Err, cluster.ErrOverloaded) || errors.Is(r.Err, ErrNotFound) && h.configured(kind, id)
			if !again || time.Since(began) > 5*time.Second {
				answer, ok := r.Message.(M)
				if r.Err == nil && !ok {
					return none, fmt.Errorf("%s %s: unexpected reply %T", kind, id, r.Message)
				}
				return answer, r.Err
			}
		case <-ctx.Done():
			return none, fmt.Errorf("call %s %s: %w: %w", kind, id, cluster.ErrUnknown, ctx.Err())
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return none, fmt.Errorf("call %s %s: %w", kind, id, ctx.Err())
		}
	}
}

// configured says whether this node knows of a unit.
func (h *Host) configured(kind, id string) bool {
	_, ok, err := h.o.Store.Get(storage.Table(kind), id)
	return err == nil && ok
}

// State asks a unit's owner what it knows of itself.
func (h *Host) State(ctx context.Context, kind, id string, q *actorv1.UnitQuery) (*actorv1.UnitAnswer, error) {
	return ask[*actorv1.UnitAnswer](ctx, h, kind, id, q)
}

// Tell brings a rule what twins said, and returns when it is committed what came of it.
func (h *Host) Tell(ctx context.Context, id string, m *actorv1.UnitNotices) error {
	_, err := ask[*actorv1.Taken](ctx, h, KindRule, id, m)
	return err
}
