package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/cluster/internal/slots"
)

// Defaults of the lease (DESIGN.md).
const (
	DefaultRenew    = time.Second
	DefaultDuration = 3500 * time.Millisecond
)

// Options of a node's part in placement.
type Options struct {
	// Self says who this node is: id, incarnation, which rises with each start, name, weight, place, addresses. State,
	// Revival and LeaseLeft are not looked at.
	Self    Member
	Records Records
	Handler Handler
	// Transport to other nodes; nil: there are none.
	Transport Transport
	// NodeHandler takes what is sent to this node itself; nil: refused.
	NodeHandler NodeHandler
	// Shift gives what else changes when an actor moves from a slot to another, as its class changes: records that have
	// the slot in their keys; nil: nothing. It reads the store as applied here, and must not block or call the Node.
	Shift func(id string, from, to Slot) (guards, writes []TableRecord)
	// Leader says whether this node leads the consensus group; nil: always. It must not block.
	Leader func() bool
	// Clock; nil means BootClock.
	Clock Clock
	// Renew and Duration of the lease; 0 means the defaults.
	Renew, Duration time.Duration
	Logger          *slog.Logger
	// Metrics gets the node's numbers while it is open; nil: none.
	Metrics *metrics.Set
	// Superseded is called at most once where this incarnation can never act again: another one of this node has taken its
	// place, or the node was removed. The process should end.
	Superseded func(why error)

	// wall is the wall clock of deadlines; nil means time.Now.
	wall func() time.Time
	// slots is how many slots the class "" has; 0 means all. Simulations have fewer, of each class.
	slots  int
	faults faults
}

// faults switch protections off, one by one, so that tests can show that they are needed.
type faults struct {
	ignoreLease  bool          // act without a lease
	noSlotGuard  bool          // flip slots whatever their record says
	deadAfter    time.Duration // W; 0: as it should be
	dontAwait    bool          // flip without waiting for the release
	forceRelease bool          // the leader flips slots of living owners
	neverFlip    bool          // the leader leaves the slots of the dead
	dropParked   bool          // parked calls that expire are forgotten
	noShiftGuard bool          // actors move to a class that they may not be wanted in any more
}

// Node owns slots, holds the lease and routes calls. All of its work is done in callbacks of its clock, records,
// transport and handler, one at a time under mu; what it calls itself is called without mu, in order.
type Node struct {
	o  Options
	id string

	// Read without mu.
	owners [SlotSpace]atomic.Pointer[owner]
	// until is the clock's reading up to which the lease holds, in nanoseconds; 0: none.
	until atomic.Int64
	// leased says that this incarnation has had a lease.
	leased atomic.Bool
	// passing says that this node has left and may pass calls on without a lease.
	passing atomic.Bool
	// ahead counts the calls of each slot that are parked or about to go on.
	ahead [SlotSpace]atomic.Int32
	count counters

	mu       sync.Mutex
	idle     *sync.Cond // outgoing calls are done
	out      []func()
	flushing bool
	stopped  bool
	ended    error // why this incarnation can never act again
	begun    func(error)
	unwatch  []func()
	hide     func()

	lease
	view
	classes
	handover
	leader
	park    parking
	leave   func(error) // waits until this node has left; nil: it does not leave
	leaving bool        // the record that says so is on its way
	turning bool        // no call parks any more
	recent  moves
}

// owner is a slot's record as last seen here.
type owner struct {
	slotRecord
	value []byte
	// mine: the record names this incarnation of this node.
	mine bool
	// admitted: the handler has the slot and takes calls.
	admitted atomic.Bool
}

// Start registers this incarnation, takes the first lease, and returns once every slot has an owner and the handler has
// been given all that are this node's.
func Start(ctx context.Context, o Options) (*Node, error) {
	n := newNode(o)
	done := make(chan error, 1)
	n.begin(func(err error) { done <- err })
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = fmt.Errorf("start placement: %s: %w", n.missing(), context.Cause(ctx))
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func newNode(o Options) *Node {
	if o.Clock == nil {
		o.Clock = &BootClock{}
	}
	if o.Renew == 0 {
		o.Renew = DefaultRenew
	}
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	if o.Superseded == nil {
		o.Superseded = func(error) {}
	}
	if o.Leader == nil {
		o.Leader = func() bool { return true }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.wall == nil {
		o.wall = time.Now
	}
	if o.slots == 0 {
		o.slots = int(slots.Mask) + 1
	}
	o.Self.Weight, o.Self.LeaseLeft = max(o.Self.Weight, 1), 0
	if o.Self.boot == 0 {
		o.Self.boot = rand.Uint64()
	}
	n := &Node{o: o, id: o.Self.ID}
	n.idle = sync.NewCond(&n.mu)
	n.suspended = true
	n.members = map[string]*memberView{}
	n.noted = map[string]*noted{}
	n.progress = map[string]time.Duration{}
	n.judging = map[string]bool{}
	n.hide = n.showMetrics(o.Metrics)
	n.park.bySlot = map[Slot][]*call{}
	n.recent.began = map[Slot]time.Time{}
	n.shifts = map[Slot]map[string][]byte{}
	n.o.Self.features = featureClasses | featureBrokers | featureJournal
	for kind := range n.flips {
		n.flips[kind].batch = flipBounds[kind].slots
	}
	return n
}

// begin starts everything; done is called once, when Start may return.
func (n *Node) begin(done func(error)) {
	n.mu.Lock()
	n.begun = done
	n.mu.Unlock()
	members := n.o.Records.Watch(TableMember, func(changes []Record) { n.do(func() { n.observeMembers(changes) }) })
	slots := n.o.Records.Watch(TableSlot, func(changes []Record) { n.do(func() { n.observeSlots(changes) }) })
	classes := n.o.Records.Watch(tableClass, func(changes []Record) { n.do(func() { n.observeClasses(changes) }) })
	shifts := n.o.Records.Watch(TableShift, func(changes []Record) { n.do(func() { n.observeShifts(changes) }) })
	n.mu.Lock()
	n.unwatch = append(n.unwatch, members, slots, classes, shifts)
	n.mu.Unlock()
	n.do(n.register)
	n.poll()
}

// do runs f and what follows from it.
func (n *Node) do(f func()) {
	n.mu.Lock()
	if n.stopped {
		n.mu.Unlock()
		return
	}
	f()
	n.step()
	n.unlock()
}

// step does what the state asks for. It is cheap where there is nothing to do.
func (n *Node) step() {
	n.checkLease()
	n.tellHandler()
	n.startReleases()
	for kind := range flipKinds {
		n.flip(kind)
	}
	n.checkLeave()
	n.checkBegun()
}

// later calls f without mu, after everything that was asked for before.
func (n *Node) later(f func()) { n.out = append(n.out, f) }

// unlock gives mu back and makes the outgoing calls, unless somebody else is about to.
func (n *Node) unlock() {
	if n.flushing || len(n.out) == 0 {
		n.mu.Unlock()
		return
	}
	n.flushing = true
	for len(n.out) > 0 {
		batch := n.out
		n.out = nil
		n.mu.Unlock()
		for _, f := range batch {
			f()
		}
		n.mu.Lock()
	}
	n.flushing = false
	n.idle.Broadcast()
	n.mu.Unlock()
}

// after runs f in d from now, unless the node is closed by then.
func (n *Node) after(d time.Duration, f func()) (stop func() bool) {
	return n.o.Clock.AfterFunc(d, func() { n.do(f) })
}

// commit proposes a transaction; done runs under mu.
func (n *Node) commit(t Txn, done func(error)) {
	n.later(func() {
		n.o.Records.Commit(t, func(err error) { n.do(func() { done(err) }) })
	})
}

// checkBegun ends Start.
func (n *Node) checkBegun() {
	if n.begun == nil || n.missingNow() != "" {
		return
	}
	done := n.begun
	n.begun = nil
	n.later(func() { done(nil) })
}

func (n *Node) failStart(err error) {
	if done := n.begun; done != nil {
		n.begun = nil
		n.later(func() { done(err) })
	}
}

func (n *Node) missing() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.missingNow()
}

// missingNow says what Start still waits for.
func (n *Node) missingNow() string {
	switch {
	case !n.registered:
		return "the node is not registered yet"
	case !n.synced():
		return "the records are not read yet"
	case !n.self.alive():
		return "the node is " + n.self.State.String()
	case n.granted == 0:
		return "there is no lease yet"
	case n.members[n.id] == nil || n.members[n.id].Incarnation != n.o.Self.Incarnation:
		return "its own record is not seen yet"
	case n.lacking.count > 0:
		return fmt.Sprintf("%d slots have no owner yet", n.lacking.count)
	case n.gaining > 0:
		return fmt.Sprintf("%d slots are on their way to the handler", n.gaining)
	}
	return ""
}

// end says that this incarnation can never act again.
func (n *Node) end(why error) {
	if n.ended != nil {
		return
	}
	n.ended = why
	n.until.Store(0)
	n.failStart(why)
	n.later(func() { n.o.Superseded(why) })
}

// Owned tells whether this node owns the slot now, and the guard that proves it. It does not look at the lease.
func (n *Node) Owned(s Slot) (Ownership, bool) {
	if o := n.owners[s].Load(); o != nil && o.mine {
		return o.ownership(s), true
	}
	return Ownership{}, false
}

func (o *owner) ownership(s Slot) Ownership {
	return Ownership{Slot: s, Table: TableSlot, Key: slotKey(s), Value: o.value, Since: o.since}
}

// Location says where a slot lives.
type Location struct {
	Slot        Slot
	Node        string
	Incarnation uint64
	Since       uint64
}

// Where gives the owner of an id's slot as last seen here; ok is false where it has none.
func (n *Node) Where(id string) (l Location, ok bool) {
	l.Slot = n.SlotOf(id)
	o := n.owners[l.Slot].Load()
	if o == nil {
		return l, false
	}
	l.Node, l.Incarnation, l.Since = o.node, o.incarnation, o.since
	return l, true
}

// Slots gives the owners of all slots that have one, as last seen here, in the order of slots.
func (n *Node) Slots() []Location {
	all := make([]Location, 0, SlotCount)
	for s := range n.owners {
		if o := n.owners[s].Load(); o != nil {
			all = append(all, Location{Slot(s), o.node, o.incarnation, o.since})
		}
	}
	return all
}

// SlotsByNode counts the slots of each node as last seen here.
func (n *Node) SlotsByNode() map[string]int {
	count := map[string]int{}
	for s := range n.owners {
		if o := n.owners[s].Load(); o != nil {
			count[o.node]++
		}
	}
	return count
}

// TurnAway answers the calls that are parked, and from now on each one that would be, with ErrUnavailable: they did not run.
func (n *Node) TurnAway() {
	n.mu.Lock()
	if !n.stopped {
		n.turning = true
		n.park.close(n)
	}
	n.unlock()
}

// Close lets the lease run out and ends the watches; parked calls are answered. The slots keep their record: the next
// incarnation takes them over. Whoever calls it has drained the handler before. No callback comes after it.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.stopped {
		n.mu.Unlock()
		return nil
	}
	n.stopped = true
	n.until.Store(0)
	n.failStart(errClosed)
	if n.leave != nil {
		n.leave(errClosed)
	}
	n.park.close(n)
	unwatch := n.unwatch
	n.unlock()
	n.hide()
	for _, stop := range unwatch {
		stop()
	}
	n.mu.Lock()
	for n.flushing {
		n.idle.Wait()
	}
	n.until.Store(0)
	n.mu.Unlock()
	return nil
}

var errClosed = fmt.Errorf("the node is closed: %w", ErrUnavailable)
