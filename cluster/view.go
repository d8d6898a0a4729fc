package cluster

import "slices"

// view is what the records say, as far as they were seen here, and what follows from them.
type view struct {
	members       map[string]*memberView
	ids           []string // of members, sorted
	others        int      // other members that may own slots
	membersSynced bool
	slotsSynced   bool
	targets       [SlotSpace]string

	own       slotSet // named to this incarnation
	away      slotSet // of own, those that should be another's
	stale     slotSet // named to an earlier incarnation of this node
	vacant    slotSet // without a record
	orphans   slotSet // vacant, or of a member that is dead, has left or is unknown
	misplaced slotSet // of living members, those that should be another's
	broken    slotSet // with a record that cannot be read
	lacking   slotSet // vacant or stale, and there is a member that may have them
	homeless  slotSet // released here, and there is no member that may have them
}

type memberView struct {
	Member
	value []byte
	// unread: the record is of a version that is not known here. Its node is left alone.
	unread bool
}

func (n *Node) synced() bool {
	return n.membersSynced && n.slotsSynced && n.classesSynced && n.shiftsSynced
}

// observeMembers follows the member table.
func (n *Node) observeMembers(changes []Record) {
	if changes == nil {
		if n.membersSynced {
			n.dropVanished()
		}
		n.membersSynced = true
		n.retarget()
		return
	}
	for _, c := range changes {
		if c.Value == nil {
			delete(n.members, c.Key)
			if c.Key == n.id && n.registered {
				n.refreshSelf()
			}
			continue
		}
		m, err := DecodeMember(c.Key, c.Value)
		if err != nil {
			n.o.Logger.Error("a member's record cannot be read; it is left alone", "node", c.Key, "error", err)
			n.members[c.Key] = &memberView{Member{ID: c.Key}, c.Value, true}
			continue
		}
		n.members[c.Key] = &memberView{m, c.Value, false}
		if c.Key == n.id {
			n.learnSelf(m, c.Value)
		}
	}
	n.ids = n.ids[:0]
	n.others = 0
	journals := true
	for id, m := range n.members {
		n.ids = append(n.ids, id)
		journals = journals && (!m.alive() || m.features&featureJournal != 0)
		if id != n.id && m.State != StateLeft {
			n.others++
		}
	}
	slices.Sort(n.ids)
	n.journals.Store(journals)
	if n.membersSynced {
		n.retarget()
	}
}

// JournalRead says whether the programs of all members that are alive read the journal's entries in the log: during an upgrade
// some do not, and would stop at the first one. Cheap.
func (n *Node) JournalRead() bool { return n.journals.Load() }

// dropVanished forgets members that a new listing did not have.
func (n *Node) dropVanished() {
	records, err := n.o.Records.Scan(TableMember)
	if err != nil {
		return
	}
	for _, id := range slices.Clone(n.ids) {
		there := slices.ContainsFunc(records, func(r Record) bool { return r.Key == id })
		if !there {
			n.membersSynced = false
			n.observeMembers([]Record{{Key: id}})
		}
	}
}

// candidates are the members that may be targets of the class's slots: the active ones that satisfy its selector; where
// there is none, those that drain on an operator's word; else, for the class "", those that leave. Where classes are in
// use a program that does not know them owns nothing.
func (n *Node) candidates(c Class) []Candidate {
	var all [3][]Candidate
	for _, id := range n.ids {
		m := n.members[id]
		if !m.alive() || n.classed.Load() && !m.knowsClasses() {
			continue
		}
		if c != 0 && (m.wish == wishLeave || n.byNumber[c].unread || !n.byNumber[c].selector.Matches(&m.Member)) {
			continue
		}
		all[m.wish] = append(all[m.wish], Candidate{id, m.Weight})
	}
	for _, c := range all {
		if len(c) > 0 {
			return c
		}
	}
	return nil
}

// retarget computes the targets of the slots anew whose candidates have changed, and sorts all slots.
func (n *Node) retarget() {
	if changed := n.makePools(); changed != nil {
		n.eachSlot(func(s Slot) {
			if c := s.Class(); changed[c] != nil {
				n.targets[s] = propose(s, n.pools[c], changed[c])
			}
		})
	}
	n.classifyAll()
}

func (n *Node) classifyAll() {
	if !n.synced() {
		return
	}
	n.eachSlot(func(s Slot) { n.classify(s, n.owners[s].Load()) })
	if !n.suspended {
		n.gainAll()
	}
}

// classify sorts a slot into the sets.
func (n *Node) classify(s Slot, o *owner) {
	target := n.targets[s]
	n.vacant.set(s, o == nil && !n.broken.has(s))
	n.own.set(s, o != nil && o.mine)
	n.stale.set(s, o != nil && o.node == n.id && o.incarnation < n.o.Self.Incarnation)
	n.lacking.set(s, target != "" && (n.vacant.has(s) || n.stale.has(s)))
	shifting := n.shifting.has(s)
	// A node that stops lets go also of what nobody else may have.
	n.away.set(s, o != nil && o.mine && (shifting || target != n.id && (target != "" || n.self.wish == wishLeave)))
	n.homeless.set(s, n.released.has(s) && target == "" && !shifting)
	orphan, elsewhere, misplaced := n.vacant.has(s), false, false
	if o != nil {
		m := n.members[o.node]
		orphan = m == nil || m.State == StateDead || m.State == StateLeft
		elsewhere = !orphan && !m.unread && target != o.node && target != ""
		misplaced = elsewhere || !orphan && !m.unread && shifting
	}
	n.orphans.set(s, orphan)
	n.misplaced.set(s, misplaced)
	n.recent.note(n, s, orphan && target != "" || elsewhere)
}

// observeSlots follows the slot table, and nothing else changes it: there is one order of events for this node's own
// changes and those of others.
func (n *Node) observeSlots(changes []Record) {
	if changes == nil {
		n.slotsSynced = true
		n.classifyAll()
		return
	}
	var lost []Slot
	for _, c := range changes {
		s, err := parseSlotKey(c.Key)
		if err != nil {
			n.o.Logger.Error("slot record ignored", "error", err)
			continue
		}
		var now *owner
		n.broken.set(s, false)
		if c.Value != nil {
			rec, err := decodeSlot(c.Value)
			if err == nil {
				now = &owner{slotRecord: rec, value: c.Value, mine: rec.node == n.id && rec.incarnation == n.o.Self.Incarnation}
			} else {
				n.broken.set(s, true)
				n.o.Logger.Error("slot without owner: its record cannot be read", "slot", s, "error", err)
			}
		}
		was := n.owners[s].Load()
		if was != nil && now != nil && was.since == now.since {
			continue
		}
		n.owners[s].Store(now)
		n.flying.set(s, false)
		if was != nil && was.mine && n.drop(s) {
			lost = append(lost, s)
		}
		if was != nil && now != nil {
			n.moved(s, was, now)
		}
		if n.synced() {
			n.classify(s, now)
			n.gain(s)
		}
		n.wake(s)
	}
	if lost != nil {
		n.later(func() { n.o.Handler.Lost(lost) })
	}
}

// member gives a member's record as guards want it; nil value: there is none.
func (n *Node) memberGuard(id string) TableRecord {
	if m := n.members[id]; m != nil {
		return record(TableMember, id, m.value)
	}
	return record(TableMember, id, nil)
}

// Members gives the members' records as seen here, in the order of their ids.
func (n *Node) Members() []Member {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]Member, 0, len(n.ids))
	for _, id := range n.ids {
		m := n.members[id].Member
		switch {
		case id == n.id:
			m.LeaseLeft = n.LeaseLeft()
		case m.alive() && n.noted[id] != nil:
			m.LeaseLeft = n.noted[id].at + n.o.Duration - n.o.Clock.Now()
		}
		all = append(all, m)
	}
	return all
}
