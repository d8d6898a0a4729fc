package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Move is a hand-over of a slot, as seen here.
type Move struct {
	Slot Slot
	// From is the owner, To the target. From is "" for a slot that had no owner.
	From, To string
	// Began is when the slot's owner was first seen to be another than its target, Ended when the new owner's record was
	// seen; zero: not yet.
	Began, Ended time.Time
	State        MoveState
	// Awaited is the node whose turn it is, or "leader", "" where it is over.
	Awaited string
}

// MoveState is how far a hand-over is.
type MoveState string

// The states of a hand-over. Releasing and flipping are known of this node's own slots only.
const (
	MoveWaiting   MoveState = "waiting"
	MoveReleasing MoveState = "releasing"
	MoveFlipping  MoveState = "flipping"
	MoveDone      MoveState = "done"
)

const awaitsLeader = "leader"

// maxMoves bounds the hand-overs that are remembered.
const maxMoves = 1024

// moves remembers hand-overs for operators.
type moves struct {
	current slotSet
	began   map[Slot]time.Time
	states  [SlotSpace]MoveState // "": waiting
	past    []Move               // a ring, oldest at next
	next    int
	total   uint64
}

// note keeps since when a slot is not where it should be.
func (m *moves) note(n *Node, s Slot, moving bool) {
	if m.current.has(s) == moving {
		return
	}
	m.current.set(s, moving)
	m.states[s] = ""
	if moving {
		m.began[s] = n.o.wall()
	} else {
		delete(m.began, s)
	}
}

func (m *moves) at(s Slot, state MoveState) { m.states[s] = state }

func (m *moves) ended(n *Node, s Slot, from, to string) {
	now := n.o.wall()
	began, known := m.began[s]
	if !known {
		began = now
	}
	delete(m.began, s)
	m.current.set(s, false)
	m.states[s] = ""
	m.total++
	move := Move{Slot: s, From: from, To: to, Began: began, Ended: now, State: MoveDone}
	if len(m.past) < maxMoves {
		m.past = append(m.past, move)
		return
	}
	m.past[m.next] = move
	m.next = (m.next + 1) % maxMoves
}

// Moves gives the recent hand-overs, oldest first, and then those under way in the order of slots.
func (n *Node) Moves() []Move {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := &n.recent
	all := append(slices.Clone(m.past[m.next:]), m.past[:m.next]...)
	m.current.each(nil, func(s Slot) bool {
		move := Move{Slot: s, To: n.targets[s], Began: m.began[s]}
		if o := n.owners[s].Load(); o != nil {
			move.From = o.node
		}
		move.State, move.Awaited = n.moving(s)
		all = append(all, move)
		return true
	})
	return all
}

// moving tells how far the slot's hand-over is and who is awaited: its owner, or the leader where that is dead.
func (n *Node) moving(s Slot) (state MoveState, awaited string) {
	switch o := n.owners[s].Load(); {
	case !n.recent.current.has(s):
		return "", ""
	case o == nil || n.orphans.has(s):
		return MoveWaiting, awaitsLeader
	case n.recent.states[s] != "":
		return n.recent.states[s], o.node
	default:
		return MoveWaiting, o.node
	}
}

// SlotInfo tells where a slot lives as seen here (ok false: nowhere), where it should live, and, where that differs, how far
// the hand-over is and who is awaited.
func (n *Node) SlotInfo(s Slot) (at Location, ok bool, target string, state MoveState, awaited string) {
	at.Slot = s
	if o := n.owners[s].Load(); o != nil {
		at, ok = Location{s, o.node, o.incarnation, o.since}, true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	state, awaited = n.moving(s)
	return at, ok, n.targets[s], state, awaited
}

// Target is the member that should own the slot, as seen here; "": there is none.
func (n *Node) Target(s Slot) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.targets[s]
}

// Complaint is something that Check found.
type Complaint struct {
	Text string
	// Actors: it names actors, or says what those are configured with, and so is not for everybody who may see the cluster.
	Actors bool
}

func aboutActors(kind string) bool { return kind == "selector" || kind == "shift" }

// maxComplaints bounds what Check says of one kind.
const maxComplaints = 10

// Check looks for what must not be: slots without an owner, owners that are no living members or not the target, leases
// that are over, a slot table here that is not the store's. It reads the records anew. What is on its way is complained
// about too: ask again.
func (n *Node) Check(ctx context.Context) []Complaint {
	c := complaints{}
	members, err := n.o.Records.Scan(TableMember)
	slots, err2 := n.o.Records.Scan(TableSlot)
	if err != nil || err2 != nil {
		return []Complaint{{Text: fmt.Sprintf("the records cannot be read: %v %v", err, err2)}}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	known := map[string]Member{}
	for _, r := range members {
		m, err := DecodeMember(r.Key, r.Value)
		if err != nil {
			c.add("member", "node %s: %v", r.Key, err)
			continue
		}
		known[r.Key] = m
		n.checkMember(&c, m)
	}
	seen := slotSet{}
	for _, r := range slots {
		if ctx.Err() != nil {
			return append(c.all, Complaint{Text: "not everything was checked: " + ctx.Err().Error()})
		}
		s, err := parseSlotKey(r.Key)
		if err != nil {
			c.add("key", "%v", err)
			continue
		}
		seen.set(s, true)
		n.checkSlot(&c, s, r.Value, known)
	}
	missing := 0
	n.eachSlot(func(s Slot) {
		if !seen.has(s) && n.unmetBy(s) == nil {
			missing++
		}
	})
	if missing > 0 {
		c.add("missing", "%d slots have no record", missing)
	}
	n.checkSelectors(&c)
	return c.end()
}

func (n *Node) checkMember(c *complaints, m Member) {
	switch {
	case m.State == StateDead || m.State == StateExpelled:
		c.add("state", "node %s (%s) is %s", m.ID, m.Name, m.State)
	case !m.alive():
	case m.ID == n.id && !n.LeaseValid():
		c.add("lease", "this node, %s (%s), has no lease", m.ID, m.Name)
	case m.ID != n.id && (n.noted[m.ID] == nil || n.o.Clock.Now()-n.noted[m.ID].at > n.o.Duration):
		c.add("lease", "node %s (%s) has not renewed its lease", m.ID, m.Name)
	}
}

func (n *Node) checkSlot(c *complaints, s Slot, value []byte, members map[string]Member) {
	rec, err := decodeSlot(value)
	if err != nil {
		c.add("record", "slot %d: %v", s, err)
		return
	}
	m, there := members[rec.node]
	switch {
	case n.unmetBy(s) != nil:
		return
	case !there:
		c.add("owner", "slot %d belongs to %s, which is no member", s, rec.node)
	case !m.alive():
		c.add("owner", "slot %d belongs to %s, which is %s", s, rec.node, m.State)
	case rec.incarnation != m.Incarnation:
		c.add("owner", "slot %d belongs to incarnation %d of %s, which is at %d", s, rec.incarnation, rec.node, m.Incarnation)
	case n.targets[s] != rec.node:
		c.add("target", "slot %d belongs to %s and should move to %s", s, rec.node, n.targets[s])
	}
	o := n.owners[s].Load()
	if o == nil || o.since != rec.since {
		c.add("table", "slot %d: the record is at %d, the table here is not", s, rec.since)
		return
	}
	if o.mine && n.phases[s] == phaseHeld && !o.admitted.Load() || o.mine && n.phases[s] == phaseNone {
		c.add("held", "slot %d is this node's and does not take calls yet", s)
	}
}

// complaints are counted by kind; the first few of each are spelled out.
type complaints struct {
	all   []Complaint
	count map[string]int
	kinds []string
}

func (c *complaints) add(kind, format string, args ...any) {
	if c.count == nil {
		c.count = map[string]int{}
	}
	if c.count[kind] == 0 {
		c.kinds = append(c.kinds, kind)
	}
	if c.count[kind]++; c.count[kind] <= maxComplaints {
		c.all = append(c.all, Complaint{Text: fmt.Sprintf(format, args...), Actors: aboutActors(kind)})
	}
}

func (c *complaints) end() []Complaint {
	for _, kind := range c.kinds {
		if more := c.count[kind] - maxComplaints; more > 0 {
			c.all = append(c.all, Complaint{Text: fmt.Sprintf("%d more like this: %s", more, kind), Actors: aboutActors(kind)})
		}
	}
	return c.all
}
