package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of the lease (DESIGN.md section 6).
const (
	DefaultRenew    = 500 * time.Millisecond
	DefaultDuration = 3500 * time.Millisecond
)

// Options of a node's part in placement.
type Options struct {
	// Self says who this node is: id, incarnation, which rises with each start, name, weight, place, addresses.
	Self    Member
	Records Records
	Handler Handler
	// Transport to other nodes; nil: there are none.
	Transport Transport
	// NodeHandler takes what is sent to this node itself; nil: refused.
	NodeHandler NodeHandler
	// Leader says whether this node leads the consensus group; nil: always. It must not block.
	Leader func() bool
	// Clock; nil means BootClock.
	Clock Clock
	// Renew and Duration of the lease; 0 means the defaults.
	Renew, Duration time.Duration
	Logger          *slog.Logger
	// Superseded is called at most once, from a goroutine of the node, when another incarnation of this node has taken its
	// place: the process should end.
	Superseded func()
}

// Node owns slots, holds the lease and routes calls.
type Node struct {
	o       Options
	lease   *lease
	owners  [SlotCount]atomic.Pointer[owner]
	mine    atomic.Int32
	stop    context.CancelFunc
	unwatch func()
	closing sync.Once
	joined  sync.WaitGroup
	synced  chan struct{} // closed when the slot table has been read once

	refused [refusals]atomic.Uint64
}

// owner is a slot's record as last seen here.
type owner struct {
	slotRecord
	value []byte
}

// Start registers this incarnation, takes the first lease, proposes this node for the slots that are its, and
// returns once the handler has been given all of them.
func Start(ctx context.Context, o Options) (*Node, error) {
	if o.Clock == nil {
		o.Clock = BootClock{}
	}
	if o.Renew == 0 {
		o.Renew = DefaultRenew
	}
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	if o.Superseded == nil {
		o.Superseded = func() {}
	}
	n := &Node{o: o, synced: make(chan struct{})}
	me := o.Self
	me.State, me.Weight = StateActive, max(me.Weight, 1)
	self := Record{Key: me.ID, Value: me.encode()}
	if err := n.register(ctx, self); err != nil {
		return nil, err
	}
	n.lease = &lease{records: o.Records, clock: o.Clock, duration: o.Duration, node: o.Self.ID, member: self, inc: o.Self.Incarnation, log: o.Logger}
	if err := n.lease.renew(ctx); err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.Background())
	n.stop = stop
	n.goFunc(func() { n.lease.keep(run, o.Renew, o.Superseded) })
	n.unwatch = n.watchSlots()
	if err := n.claim(ctx); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *Node) goFunc(f func()) {
	n.joined.Add(1)
	go func() { defer n.joined.Done(); f() }()
}

// register commits the member record. An incarnation that is not above the recorded one is refused: the data
// directory is a copy, or was put back.
func (n *Node) register(ctx context.Context, self Record) error {
	was, err := n.o.Records.Get(TableMember, n.o.Self.ID)
	if err != nil {
		return fmt.Errorf("register node: %w", err)
	}
	if was != nil {
		before, err := DecodeMember(n.o.Self.ID, was)
		if err != nil {
			return fmt.Errorf("register node: %w", err)
		}
		if before.Incarnation >= n.o.Self.Incarnation {
			return fmt.Errorf("register node %s: incarnation %d is not above %d, which was there before: is this a copy of a data directory?",
				n.o.Self.ID, n.o.Self.Incarnation, before.Incarnation)
		}
	}
	guard := TableRecord{Table: TableMember, Record: Record{Key: n.o.Self.ID, Value: was}}
	if err := commit(ctx, n.o.Records, Txn{Guards: []TableRecord{guard}, Writes: []TableRecord{{TableMember, self}}}); err != nil {
		return fmt.Errorf("register node: %w", err)
	}
	return nil
}

// watchSlots keeps the slot table as the records have it, and tells the handler what it gained and lost.
func (n *Node) watchSlots() (stop func()) {
	return n.o.Records.Watch(TableSlot, func(changes []Record) {
		if changes == nil {
			select {
			case <-n.synced:
			default:
				close(n.synced)
			}
			return
		}
		n.observe(changes)
	})
}

func (n *Node) observe(changes []Record) {
	var gained []Ownership
	var lost []Slot
	for _, c := range changes {
		slot, err := parseSlotKey(c.Key)
		if err != nil {
			n.o.Logger.Error("slot record ignored", "error", err)
			continue
		}
		var now *owner
		if c.Value != nil {
			if rec, err := decodeSlot(c.Value); err == nil {
				now = &owner{rec, c.Value}
			} else {
				n.o.Logger.Error("slot without owner: its record cannot be read", "slot", slot, "error", err)
			}
		}
		was := n.owners[slot].Load()
		if was != nil && now != nil && was.since == now.since {
			continue
		}
		n.owners[slot].Store(now)
		if n.own(was) {
			lost = append(lost, slot)
			n.mine.Add(-1)
		}
		if n.own(now) {
			gained = append(gained, now.ownership(slot))
			n.mine.Add(1)
		}
	}
	if lost != nil {
		n.o.Handler.Lost(lost)
	}
	if gained != nil {
		n.o.Handler.Gained(gained)
	}
}

func (n *Node) own(o *owner) bool {
	return o != nil && o.node == n.o.Self.ID && o.incarnation == n.o.Self.Incarnation
}

func (o *owner) ownership(s Slot) Ownership {
	return Ownership{Slot: s, Table: TableSlot, Key: slotKey(s), Value: o.value, Since: o.since}
}

// claimBatch bounds the slots of one transaction, so that it stays small beside others.
const claimBatch = 1024

// claim proposes this node for each slot that rendezvous gives it and that no living member has, until all are its.
func (n *Node) claim(ctx context.Context) error {
	select {
	case <-n.synced:
	case <-ctx.Done():
		return fmt.Errorf("claim slots: %w", context.Cause(ctx))
	}
	members := []Candidate{{ID: n.o.Self.ID, Weight: max(n.o.Self.Weight, 1)}}
	var guards, writes []TableRecord
	flush := func() error {
		if len(writes) == 0 {
			return nil
		}
		err := commit(ctx, n.o.Records, Txn{Guards: guards, Writes: writes})
		guards, writes = nil, nil
		if errors.Is(err, ErrConflict) {
			return nil // somebody else was first; the table will say so
		}
		return err
	}
	wanted := 0
	for s := range Slot(SlotCount) {
		if Propose(s, members) != n.o.Self.ID {
			continue
		}
		wanted++
		was := n.owners[s].Load()
		next := slotRecord{node: n.o.Self.ID, incarnation: n.o.Self.Incarnation, since: 1}
		guard := TableRecord{Table: TableSlot, Record: Record{Key: slotKey(s)}}
		if was != nil {
			next.since, guard.Value = was.since+1, was.value
		}
		guards = append(guards, guard)
		writes = append(writes, record(TableSlot, guard.Key, next.encode()))
		if len(writes) == claimBatch {
			if err := flush(); err != nil {
				return fmt.Errorf("claim slots: %w", err)
			}
		}
	}
	if err := flush(); err != nil {
		return fmt.Errorf("claim slots: %w", err)
	}
	return n.waitMine(ctx, wanted)
}

func (n *Node) waitMine(ctx context.Context, wanted int) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for int(n.mine.Load()) < wanted {
		select {
		case <-ctx.Done():
			return fmt.Errorf("claim slots: %d of %d are here: %w", n.mine.Load(), wanted, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// Owned tells whether this node owns the slot now, and the guard that proves it. It does not look at the lease.
func (n *Node) Owned(s Slot) (Ownership, bool) {
	if o := n.owners[s].Load(); n.own(o) {
		return o.ownership(s), true
	}
	return Ownership{}, false
}

// LeaseValid tells whether this node may act on its slots now. It is asked right before each device write.
func (n *Node) LeaseValid() bool { return n.lease.valid() }

// LeaseLeft is the time that the lease still has, negative where it is over.
func (n *Node) LeaseLeft() time.Duration { return n.lease.left() }

// Location says where an actor lives.
type Location struct {
	Slot        Slot
	Node        string
	Incarnation uint64
	Since       uint64
}

// Where gives the owner of an id's slot as last seen here; ok is false where it has none.
func (n *Node) Where(id string) (l Location, ok bool) {
	l.Slot = SlotOf(id)
	o := n.owners[l.Slot].Load()
	if o == nil {
		return l, false
	}
	l.Node, l.Incarnation, l.Since = o.node, o.incarnation, o.since
	return l, true
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

// Close lets the lease run out and ends the watch. The slots keep their record: the next incarnation takes them over.
// Whoever calls it has drained the handler before.
func (n *Node) Close() error {
	n.lease.until.Store(0)
	n.stop()
	n.closing.Do(func() {
		if n.unwatch != nil {
			n.unwatch()
		}
	})
	n.joined.Wait()
	n.lease.until.Store(0)
	return nil
}
