package gossip

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// State is how a member seems to be.
type State string

const (
	// Alive: it answers, or has not been found silent for long enough.
	Alive State = "alive"
	// Dead: it stopped answering.
	Dead State = "dead"
	// Left: it went on purpose.
	Left State = "left"
)

// Member is a node as gossip knows it.
type Member struct {
	Meta
	State State
	// Since is when it came into this state, by this node's clock.
	Since time.Time
}

// runOf is one run of a node. Memberlist's name is the node's id with its incarnation, so that a node which comes back at
// another address before the others noticed that it was gone is no conflict, but a newer run.
type runOf struct {
	meta  Meta
	state State
	since time.Time
}

func memberName(id string, incarnation uint64) string {
	return id + "@" + strconv.FormatUint(incarnation, 36)
}

// keepGone bounds how long a member that is gone is remembered.
const keepGone = 24 * time.Hour

// Members lists all nodes that are known, this one included, the newest run of each, in the order of their ids. Nodes that
// are gone are remembered for a day.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	best := map[string]*runOf{}
	for name, k := range g.known {
		if k.state != Alive && time.Since(k.since) > keepGone {
			delete(g.known, name)
			continue
		}
		if k.before(best[k.meta.ID]) {
			best[k.meta.ID] = k
		}
	}
	out := make([]Member, 0, len(best))
	for _, k := range best {
		out = append(out, Member{Meta: k.meta, State: k.state, Since: k.since})
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Member gives one node by its id.
func (g *Gossip) Member(id string) (Member, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var best *runOf
	for _, k := range g.known {
		if k.meta.ID == id && k.before(best) {
			best = k
		}
	}
	if best == nil {
		return Member{}, false
	}
	return Member{Meta: best.meta, State: best.state, Since: best.since}, true
}

// before says whether k is what counts of two runs of a node: one that is alive, of those one that is sure of itself, then
// the newer.
func (k *runOf) before(other *runOf) bool {
	switch {
	case other == nil || (k.state == Alive) != (other.state == Alive):
		return other == nil || k.state == Alive
	case k.state == Alive && k.meta.Tentative != other.meta.Tentative:
		return other.meta.Tentative
	}
	return k.meta.Incarnation > other.meta.Incarnation
}

// delegate is what memberlist calls, under its lock: nothing here calls back or waits.
type delegate Gossip

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(limit int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.bytes) > limit {
		return nil
	}
	return d.bytes
}

// NotifyMsg implements memberlist.Delegate.
func (d *delegate) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (d *delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState([]byte, bool) {}

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.note(n, Alive) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.note(n, Alive) }

// NotifyLeave implements memberlist.EventDelegate.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.note(n, Dead) }

func (d *delegate) note(n *memberlist.Node, state State) {
	meta, err := decodeMeta(n.Meta)
	if err != nil {
		return
	}
	g := (*Gossip)(d)
	g.mu.Lock()
	k := g.known[n.Name]
	if k == nil {
		k = &runOf{since: time.Now()}
		g.known[n.Name] = k
	}
	if state == Dead && meta.Leaving {
		state = Left
	}
	if k.state != state {
		k.since = time.Now()
	}
	k.meta, k.state = meta, state
	if k.meta.Gossip == "" {
		k.meta.Gossip = n.Address()
	}
	// Older runs of the node are of no more use.
	for name, other := range g.known {
		if name != n.Name && other.meta.ID == meta.ID && other.meta.Incarnation < meta.Incarnation && other.state != Alive {
			delete(g.known, name)
		}
	}
	twin := meta.ID == g.meta.ID && meta.Incarnation != g.meta.Incarnation && state == Alive && g.joined
	g.nudgeLocked()
	g.mu.Unlock()
	if twin && !g.quiet("copy") {
		g.log.Warn("gossip: another run of this node has appeared; is its data directory a copy?", "address", meta.Gossip)
	}
}

// NotifyAlive implements memberlist.AliveDelegate: an error refuses the node.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	meta, err := decodeMeta(n.Meta)
	if err != nil {
		d.m.garbage.Inc()
		return err
	}
	if n.Name != memberName(meta.ID, meta.Incarnation) {
		d.m.garbage.Inc()
		return fmt.Errorf("node %q says that it is %q", n.Name, memberName(meta.ID, meta.Incarnation))
	}
	return (*Gossip)(d).checkName(meta)
}

// NotifyMerge implements memberlist.MergeDelegate: an error ends a Join. A newcomer learns here that its name is taken;
// whom the others refuse, NotifyAlive decides for each.
func (d *delegate) NotifyMerge(peers []*memberlist.Node) error {
	g := (*Gossip)(d)
	for _, n := range peers {
		if n.State == memberlist.StateDead || n.State == memberlist.StateLeft {
			continue
		}
		meta, err := decodeMeta(n.Meta)
		if err != nil || meta.ID == g.o.Meta.ID || meta.Name != g.o.Meta.Name {
			continue
		}
		err = g.checkName(meta)
		g.mu.Lock()
		taken := g.taken
		g.mu.Unlock()
		if taken != nil {
			return err
		}
	}
	return nil
}

// NotifyConflict implements memberlist.ConflictDelegate: one run of one node at two addresses is a copied directory.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.m.conflicts.Inc()
	g := (*Gossip)(d)
	if existing.Name == memberName(g.o.Meta.ID, g.o.Meta.Incarnation) {
		g.mu.Lock()
		if g.joining > 0 && !g.joined {
			g.taken = copyError(other.Address())
			g.tellLocked(g.taken)
		}
		g.mu.Unlock()
	}
	if g.quiet("conflict " + existing.Name) {
		return
	}
	d.log.Warn("gossip: one node at two addresses; is its data directory a copy?", "node", existing.Name,
		"address", existing.Address(), "other", other.Address())
}

func copyError(addr string) error {
	return fmt.Errorf("%w at %s: is the data directory a copy?", ErrCopy, addr)
}

// findCopy looks, at the first Join, whether another run of this node is still alive. After a crash gossip believes so for
// some seconds, so it is asked. The one that came later gives way.
func (g *Gossip) findCopy() {
	g.mu.Lock()
	var others []runOf
	for _, k := range g.known {
		if !g.joined && k.meta.ID == g.meta.ID && k.meta.Incarnation != g.meta.Incarnation && k.state == Alive {
			others = append(others, *k)
		}
	}
	g.mu.Unlock()
	for _, k := range others {
		addr, err := net.ResolveUDPAddr("udp", k.meta.Gossip)
		if err != nil || k.meta.Gossip == g.Address() {
			continue // where this one listens, no other does
		}
		for range 2 {
			if _, err := g.list.Ping(memberName(k.meta.ID, k.meta.Incarnation), addr); err == nil {
				g.mu.Lock()
				g.taken = copyError(k.meta.Gossip)
				g.tellLocked(g.taken)
				g.mu.Unlock()
				return
			}
		}
	}
}

// checkName refuses a living node that has the name of another living node.
func (g *Gossip) checkName(meta Meta) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if meta.ID != g.meta.ID && meta.Name == g.meta.Name && !g.over {
		g.m.conflicts.Inc()
		err := fmt.Errorf("%w: %q is node %s at %s; this is node %s: start it with another --name", ErrName, meta.Name, meta.ID, meta.Peer, g.meta.ID)
		if g.givesWayLocked(meta) {
			g.taken = err
			g.tellLocked(err)
			return err
		}
		return fmt.Errorf("%w: node %s at %s calls itself %q as this node does, and is refused", ErrName, meta.ID, meta.Peer, meta.Name)
	}
	for _, k := range g.known {
		if k.state == Alive && k.meta.ID != meta.ID && k.meta.Name == meta.Name {
			g.m.conflicts.Inc()
			return fmt.Errorf("%w: node %s at %s calls itself %q as node %s does, and is refused", ErrName, meta.ID, meta.Peer, meta.Name, k.meta.ID)
		}
	}
	return nil
}

// givesWayLocked says whether this node is the newcomer of two with one name.
func (g *Gossip) givesWayLocked(other Meta) bool {
	if g.joining > 0 && !g.joined {
		return true
	}
	if time.Since(g.opened) > settled {
		return false
	}
	if !other.Started.Equal(g.meta.Started.Truncate(time.Millisecond)) {
		return other.Started.Before(g.meta.Started)
	}
	return other.ID < g.meta.ID
}

func (g *Gossip) tellLocked(err error) {
	if g.told || g.o.Refused == nil {
		return
	}
	g.told = true
	go g.o.Refused(fmt.Errorf("join by gossip: %w", err))
}
