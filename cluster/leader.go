package cluster

import (
	"slices"
	"time"
)

// leader is what the leader of the consensus group does besides: it says who is dead and who hangs. Every node reads
// the leases; only the leader acts on them.
type leader struct {
	leading bool
	// leadSince is from when it may count the silence of others: its first answer of the log as leader. 0: not yet.
	leadSeen, leadSince time.Duration
	noted               map[string]*noted
	leases              leases
	// judging are the members whose record is being changed.
	judging map[string]bool
	// progress is, for each member with slots to hand over, when that began or it last handed one over.
	progress map[string]time.Duration
}

// leases are those that poll has read, while the table had one version. They are poll's alone.
type leases struct {
	read    bool
	version uint64
	ids     []string
	values  [][]byte // by ids; nil: there is none
}

// noted is a member's lease record as last read, and since when it has been so by this node's clock.
type noted struct {
	value []byte
	at    time.Duration
}

const (
	pollEvery = 250 * time.Millisecond
	// leadGrace is what everybody has to renew by a new leader: a renewal and a half.
	leadGrace = 1500 * time.Millisecond
)

// silence is how long a count must not have changed for its member to be dead: longer than any lease that it may still
// have, with clocks that differ by up to a tenth.
func (n *Node) silence() time.Duration {
	if n.o.faults.deadAfter > 0 {
		return n.o.faults.deadAfter
	}
	return n.o.Duration*11/10 + 200*time.Millisecond
}

// poll reads the members' leases, without mu, where they have changed, and looks at them.
func (n *Node) poll() {
	n.mu.Lock()
	stopped, same := n.stopped, slices.Equal(n.ids, n.leases.ids)
	if !same {
		n.leases = leases{ids: slices.Clone(n.ids)}
	}
	n.mu.Unlock()
	if stopped {
		return
	}
	err := n.readLeases()
	leads := n.o.Leader()
	n.do(func() {
		next := pollEvery
		if err == nil {
			n.note()
			next = min(next, n.lead(leads))
		}
		n.o.Clock.AfterFunc(next, n.poll)
	})
}

// readLeases reads them one by one, which leaves what the store gathers alone; a scan would have it written.
func (n *Node) readLeases() error {
	l := &n.leases
	version := n.o.Records.Version(tableLease) // before they are read
	if l.read && l.version == version {
		return nil
	}
	l.read, l.version, l.values = false, version, l.values[:0]
	for _, id := range l.ids {
		value, err := n.o.Records.Get(tableLease, id)
		if err != nil {
			return err
		}
		l.values = append(l.values, value)
	}
	l.read = true
	return nil
}

// note remembers which counts have changed, from after they were read.
func (n *Node) note() {
	now := n.o.Clock.Now()
	for i, id := range n.leases.ids {
		value := n.leases.values[i]
		if was := n.noted[id]; was == nil {
			n.noted[id] = &noted{value, now}
		} else if string(was.value) != string(value) {
			was.value, was.at = value, now
		}
	}
	for id := range n.noted {
		if n.members[id] == nil {
			delete(n.noted, id)
		}
	}
}

// lead does the leader's part, and says when to look again at the latest. Silence counts only while the log answers this
// node itself: after an outage, or a pause of this node, everybody gets his time again. A new leader knows the silence that
// it noted before, for every node notes; it only gives everybody a moment to reach it.
func (n *Node) lead(leads bool) (next time.Duration) {
	now := n.o.Clock.Now()
	next = pollEvery
	n.leading = leads
	if !leads {
		n.leadSeen, n.leadSince = 0, 0
		clear(n.progress)
		return next
	}
	if n.leadSeen == 0 {
		n.leadSeen = now
	}
	if n.leadSince == 0 && n.answered >= n.leadSeen {
		n.leadSince = now
	}
	if n.leadSince == 0 || now-n.answered > n.o.Duration/2 || !n.synced() {
		return next
	}
	n.followProgress(now)
	for _, id := range n.ids {
		m, lease := n.members[id], n.noted[id]
		if lease == nil || n.judging[id] || !m.alive() && m.State != StateExpelled {
			continue
		}
		began, awaited := n.progress[id]
		left := max(max(lease.at, n.logSince)+n.silence(), n.leadSince+leadGrace) - now
		switch {
		case left <= 0:
			n.judge(m, StateDead, lease)
		case awaited && m.alive() && now-max(began, n.logSince, n.leadSince) >= stuckAfter:
			n.judge(m, StateExpelled, lease)
		default:
			next = min(next, left)
		}
	}
	return next
}

// followProgress keeps who has slots to hand over.
func (n *Node) followProgress(now time.Duration) {
	waiting := map[string]bool{}
	n.misplaced.each(nil, func(s Slot) bool {
		waiting[n.owners[s].Load().node] = true
		return true
	})
	for id := range n.progress {
		if !waiting[id] {
			delete(n.progress, id)
		}
	}
	for id := range waiting {
		if _, known := n.progress[id]; !known {
			n.progress[id] = now
		}
	}
}

// judge commits a member's new state, if its record and its lease are still as they were seen.
func (n *Node) judge(m *memberView, to State, lease *noted) {
	next := m.Member
	next.State = to
	t := Txn{
		Guards: []TableRecord{record(TableMember, m.ID, m.value), record(tableLease, m.ID, lease.value)},
		Writes: []TableRecord{record(TableMember, m.ID, next.encode())},
	}
	if to == StateExpelled {
		t.Guards = t.Guards[:1]
	}
	n.judging[m.ID] = true
	n.o.Logger.Warn("member is "+to.String(), "node", m.ID, "name", m.Name, "was", m.State.String(),
		"silent", (n.o.Clock.Now() - lease.at).Round(time.Millisecond))
	n.commit(t, func(error) { delete(n.judging, m.ID) })
}
