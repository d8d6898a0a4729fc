package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// groupView is what the leader sees when it decides about the raft group. next is a function of it alone.
type groupView struct {
	self    string
	servers []Server
	nodes   map[string]*nodeView
	policy  groupPolicy
}

// nodeView is what gossip and the records say of a node.
type nodeView struct {
	id, addr, zone string
	// alive for aliveFor as gossip says; reached says that raft has an answer of it, whatever gossip says.
	alive, reached    bool
	aliveFor, goneFor time.Duration
	// left says that it stopped as planned, leaving that it is about to.
	left, leaving bool
	// forgotten says that the records do not know it (any more).
	forgotten bool
	// lost says that a recovery has given it up.
	lost bool
}

// groupPolicy are the bounds.
type groupPolicy struct {
	expect, maxVoters                            int
	stableAfter, leftAfter, reapAfter, moveAfter time.Duration
	maxLag                                       time.Duration
	ready                                        func(id string) bool // what else a voter needs; asked last
}

func (n *nodeView) present() bool { return n != nil && (n.alive || n.reached) }

type groupAction string

const (
	actionAdd     groupAction = "add"
	actionMove    groupAction = "move"
	actionPromote groupAction = "promote"
	actionDemote  groupAction = "demote"
	actionRemove  groupAction = "remove"
)

// groupChange is one step. Every step is decided anew, as each has a configuration of its own in the log.
type groupChange struct {
	action groupAction
	id     string
	addr   string
	why    string
}

// next gives the most urgent step; false: all is well, or nothing may be done.
func (v *groupView) next() (groupChange, bool) {
	for _, rule := range []func() (groupChange, bool){v.forget, v.letGo, v.readdress, v.join, v.promote, v.replace, v.shrink, v.reap} {
		if c, ok := rule(); ok {
			return c, true
		}
	}
	return groupChange{}, false
}

func (v *groupView) node(id string) *nodeView {
	if n := v.nodes[id]; n != nil {
		return n
	}
	return &nodeView{id: id}
}

func (v *groupView) server(id string) (Server, bool) {
	for _, s := range v.servers {
		if s.ID == id {
			return s, true
		}
	}
	return Server{}, false
}

func (v *groupView) voters() (voters, present int) {
	for _, s := range v.servers {
		if s.Voter() {
			voters++
			if s.ID == v.self || v.node(s.ID).present() {
				present++
			}
		}
	}
	return voters, present
}

// target is the number of voters that the nodes which are there can make: an even group of more than two survives no
// more losses than the odd one below it.
func (v *groupView) target() int {
	n := 0
	for _, s := range v.servers {
		if s.ID == v.self || (v.node(s.ID).present() && !v.node(s.ID).leaving) {
			n++
		}
	}
	n = min(n, v.policy.maxVoters)
	if n > 2 && n%2 == 0 && n > v.policy.expect {
		n--
	}
	return n
}

// mayLose says whether the group has its quorum without this server's vote. obeying an operator it may be smaller than
// what was expected.
func (v *groupView) mayLose(s Server, obeying bool) bool {
	if s.ID == v.self {
		return false
	}
	if !s.Voter() {
		return true
	}
	voters, present := v.voters()
	voters--
	if v.node(s.ID).present() {
		present--
	}
	return present >= voters/2+1 && (obeying || voters >= v.policy.expect/2+1)
}

// forget removes servers that the records do not know and that are not there: an operator removed them.
func (v *groupView) forget() (groupChange, bool) {
	for _, s := range v.servers {
		n := v.node(s.ID)
		if n.forgotten && !n.present() && n.goneFor >= v.policy.stableAfter && v.mayLose(s, true) {
			return groupChange{actionRemove, s.ID, s.Address, "it was removed from the cluster"}, true
		}
	}
	return groupChange{}, false
}

// letGo takes the vote of one of two that is about to leave: without it the other goes on alone, with it not at all. It is an
// operator's wish, so the expected number does not keep it.
func (v *groupView) letGo() (groupChange, bool) {
	if voters, _ := v.voters(); voters != 2 {
		return groupChange{}, false
	}
	for _, s := range v.servers {
		if v.node(s.ID).leaving && s.Voter() && v.mayLose(s, true) {
			return groupChange{actionDemote, s.ID, s.Address, "it is about to leave"}, true
		}
	}
	return groupChange{}, false
}

// readdress has the configuration say where the leader itself is. Messages go where gossip says, and to nobody else there, so
// the others' addresses may be old: each says its own when it leads. (Raft reads a follower's record while it is
// replaced.) Only where a newcomer needs an address is it taken from its old holder.
func (v *groupView) readdress() (groupChange, bool) {
	self, ok := v.server(v.self)
	n := v.node(v.self)
	if !ok || !n.alive || n.addr == "" || n.addr == self.Address || n.aliveFor < v.policy.moveAfter {
		return groupChange{}, false
	}
	if holder, taken := v.holder(n.addr, self.ID); taken {
		return v.evict(holder)
	}
	return groupChange{actionMove, self.ID, n.addr, "its address changed from " + self.Address}, true
}

// holder is the server that has an address.
func (v *groupView) holder(addr, but string) (Server, bool) {
	for _, s := range v.servers {
		if s.Address == addr && s.ID != but {
			return s, true
		}
	}
	return Server{}, false
}

// evict removes a server whose address is another node's now, unless that server will move by itself.
func (v *groupView) evict(holder Server) (groupChange, bool) {
	n := v.node(holder.ID)
	if n.alive && n.addr == holder.Address {
		return groupChange{}, false // two nodes say that they are there
	}
	if n.alive {
		if _, taken := v.holder(n.addr, holder.ID); !taken && n.addr != "" {
			return groupChange{actionMove, holder.ID, n.addr, "its address changed from " + holder.Address}, true
		}
	}
	why := "another node has its address"
	if n.alive {
		why += "; it comes again as a new one" // two that changed places
	}
	if v.mayLose(holder, false) {
		return groupChange{actionRemove, holder.ID, holder.Address, why}, true
	}
	return groupChange{}, false
}

// join adds nodes that gossip has found.
func (v *groupView) join() (groupChange, bool) {
	for _, id := range sortedNodes(v.nodes) {
		n := v.nodes[id]
		if _, there := v.server(id); there || !n.alive || n.left || n.lost || n.addr == "" {
			continue
		}
		if holder, taken := v.holder(n.addr, id); taken {
			if c, ok := v.evict(holder); ok {
				return c, true
			}
			continue
		}
		return groupChange{actionAdd, id, n.addr, "it joined"}, true
	}
	return groupChange{}, false
}

func sortedNodes(nodes map[string]*nodeView) []string {
	ids := make([]string, 0, len(nodes))
	for id := range nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// candidate is the non-voter that should be the next voter: of the zone with the fewest, then the one that has been there
// for longest.
func (v *groupView) candidate(atOnce bool) (Server, bool) {
	votes := map[string]int{}
	for _, s := range v.servers {
		if n := v.node(s.ID); s.Voter() && (s.ID == v.self || n.present()) {
			votes[n.zone]++
		}
	}
	var able []Server
	for _, s := range v.servers {
		n := v.node(s.ID)
		if s.Voter() || !n.alive || n.left || n.leaving || s.LastIndex == 0 || s.Silent > 0 {
			continue
		}
		if s.Behind > v.policy.maxLag || (!atOnce && n.aliveFor < v.policy.stableAfter) {
			continue
		}
		able = append(able, s)
	}
	slices.SortFunc(able, func(a, b Server) int {
		x, y := v.node(a.ID), v.node(b.ID)
		return cmp.Or(cmp.Compare(votes[x.zone], votes[y.zone]), cmp.Compare(y.aliveFor.Round(time.Second), x.aliveFor.Round(time.Second)), cmp.Compare(a.ID, b.ID))
	})
	for _, s := range able {
		if v.policy.ready == nil || v.policy.ready(s.ID) {
			return s, true
		}
	}
	return Server{}, false
}

// promote gives votes while there are fewer than the nodes can make; at the founding without waiting.
func (v *groupView) promote() (groupChange, bool) {
	voters, _ := v.voters()
	if voters >= v.target() {
		return groupChange{}, false
	}
	s, ok := v.candidate(voters < v.policy.expect)
	if !ok {
		return groupChange{}, false
	}
	return groupChange{actionPromote, s.ID, s.Address, fmt.Sprintf("%d of %d voters are there", voters, v.target())}, true
}

// replace takes the vote of one that is gone where another can have it, or where it is one too many.
func (v *groupView) replace() (groupChange, bool) {
	gone, ok := v.gone()
	if !ok {
		return groupChange{}, false
	}
	voters, present := v.voters()
	s, spare := v.candidate(false)
	n := v.node(gone.ID)
	why := fmt.Sprintf("it has been gone for %s", n.goneFor.Round(time.Second))
	tooMany := voters > v.target() && voters > 1 && v.moreSafely(voters, present)
	longGone := n.left && n.goneFor >= v.policy.leftAfter
	switch {
	case !spare && !tooMany && !longGone:
	case v.mayLose(gone, false):
		return groupChange{actionDemote, gone.ID, gone.Address, why}, true
	case spare && voters < v.policy.maxVoters+1 && present+1 >= (voters+1)/2+1:
		return groupChange{actionPromote, s.ID, s.Address, "it takes the place of " + gone.ID}, true
	}
	return groupChange{}, false
}

// moreSafely says whether the group can lose more voters without the vote of one that is gone.
func (v *groupView) moreSafely(voters, present int) bool {
	return present-((voters-1)/2+1) > present-(voters/2+1)
}

// gone is the voter that has been gone for longest, and long enough.
func (v *groupView) gone() (Server, bool) {
	var worst Server
	var since time.Duration
	for _, s := range v.servers {
		n := v.node(s.ID)
		if s.Voter() && s.ID != v.self && !n.present() && n.goneFor >= v.policy.stableAfter && n.goneFor > since {
			worst, since = s, n.goneFor
		}
	}
	return worst, since > 0
}

// shrink takes a vote where there are more than allowed, from the zone with the most.
func (v *groupView) shrink() (groupChange, bool) {
	voters, _ := v.voters()
	if voters <= v.policy.maxVoters {
		return groupChange{}, false
	}
	votes := map[string]int{}
	for _, s := range v.servers {
		if s.Voter() {
			votes[v.node(s.ID).zone]++
		}
	}
	var most Server
	for _, s := range v.servers {
		if !s.Voter() || !v.mayLose(s, false) {
			continue
		}
		if most.ID == "" || votes[v.node(s.ID).zone] > votes[v.node(most.ID).zone] {
			most = s
		}
	}
	if most.ID == "" {
		return groupChange{}, false
	}
	return groupChange{actionDemote, most.ID, most.Address, fmt.Sprintf("%d voters are too many", voters)}, true
}

// reap removes non-voters that left or have been gone for long. They are added again when they come.
func (v *groupView) reap() (groupChange, bool) {
	for _, s := range v.servers {
		n := v.node(s.ID)
		if s.Voter() || s.ID == v.self || n.present() {
			continue
		}
		if (n.left && n.goneFor >= v.policy.leftAfter) || n.goneFor >= v.policy.reapAfter {
			return groupChange{actionRemove, s.ID, s.Address, fmt.Sprintf("it has been gone for %s", n.goneFor.Round(time.Second))}, true
		}
	}
	return groupChange{}, false
}
