package cluster

import (
	"slices"
	"strings"
	"time"
)

// The log: one order of entries. An entry is appended while the leader reaches a majority both ways; each node applies
// entries in order, later.

type simEntry struct {
	writes []TableRecord
	quiet  bool
}

func key(table, k string) string { return table + "/" + k }

// hasMajority tells whether a node could commit as leader now.
func (w *world) hasMajority(i int) bool {
	if i < 0 || !w.up(i) {
		return false
	}
	n := 0
	for j := range w.voters {
		if w.up(j) && w.reaches(i, j) && w.reaches(j, i) {
			n++
		}
	}
	return n > w.voters/2
}

// elect keeps a leader that has a majority, as raft would after its timeouts.
func (w *world) elect() {
	w.at(w.between(80*time.Millisecond, 120*time.Millisecond), nil, w.elect)
	if w.hasMajority(w.leader) {
		w.leaderless = 0
		return
	}
	if w.leaderless == 0 {
		w.leaderless = w.now
	}
	if w.now-w.leaderless < 600*time.Millisecond && w.leader >= 0 || w.chance(50) {
		return
	}
	var able []int
	for i := range w.voters {
		if w.hasMajority(i) {
			able = append(able, i)
		}
	}
	if len(able) > 0 {
		w.lead(able[w.rng.IntN(len(able))])
	}
}

func (w *world) lead(i int) {
	if old := w.leader; old >= 0 && old != i {
		w.nodes[old].believes = w.now + w.between(0, 600*time.Millisecond)
		if p := w.nodes[old].proc; p != nil && p.paused {
			w.nodes[old].believes = w.now + time.Hour // until it wakes up
		}
	}
	w.leader, w.leaderless = i, 0
}

// simRecords is the store as a process sees it.
type simRecords struct{ p *proc }

func (r simRecords) Get(table, k string) ([]byte, error) {
	if v, ok := r.p.n.state[key(table, k)]; ok {
		return []byte(v), nil
	}
	return nil, nil
}

func (r simRecords) Version(table string) uint64 { return r.p.n.versions[table] }

func (r simRecords) Scan(table string) ([]Record, error) { return scanState(r.p.n.state, table), nil }

func scanState(state map[string]string, table string) []Record {
	var all []Record
	for k, v := range state {
		if k, ok := strings.CutPrefix(k, table+"/"); ok {
			all = append(all, Record{k, []byte(v)})
		}
	}
	slices.SortFunc(all, func(a, b Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// Commit proposes by the leader, again and again for a while; some answers are lost, and some entries come late.
func (r simRecords) Commit(t Txn, done func(error)) {
	w, p := r.p.w, r.p
	t.Guards, t.Writes = slices.Clone(t.Guards), slices.Clone(t.Writes)
	answer := func(err error) { w.at(w.between(200*time.Microsecond, 10*time.Millisecond), p, func() { done(err) }) }
	if w.lossy && w.chance(1) {
		answer(ErrUnknown)
		if w.chance(60) {
			w.late(p, t, w.now+3*time.Second)
		}
		return
	}
	w.propose(p, t, answer, w.now+5*time.Second)
}

// late appends an entry that its proposer does not know of any more, some time.
func (w *world) late(p *proc, t Txn, until time.Duration) {
	w.at(w.between(0, 2*time.Second), nil, func() {
		if w.hasMajority(w.leader) {
			_ = w.appendEntry(p, t)
		} else if w.now < until {
			w.late(p, t, until)
		}
	})
}

func (w *world) propose(p *proc, t Txn, answer func(error), until time.Duration) {
	again := func() {
		if w.now >= until {
			answer(ErrUnavailable)
			return
		}
		w.at(w.between(50*time.Millisecond, 150*time.Millisecond), p, func() { w.propose(p, t, answer, until) })
	}
	leader := w.leader
	if leader < 0 || !w.reaches(p.n.idx, leader) || !w.up(leader) {
		again()
		return
	}
	// From here on the entry may be appended whatever becomes of its proposer.
	w.at(w.hop(p.n.idx, leader), nil, func() {
		if w.leader != leader || !w.up(leader) {
			if !p.gone {
				again()
			}
			return
		}
		w.replicate(p, t, leader, answer, again)
	})
}

func (w *world) replicate(p *proc, t Txn, leader int, answer func(error), again func()) {
	w.at(w.between(500*time.Microsecond, 8*time.Millisecond), nil, func() {
		switch {
		case w.leader != leader && !w.lossy:
			if !p.gone {
				again() // leadership was handed over
			}
		case w.leader != leader:
			// Deposed meanwhile: the next leader may have the entry, or not.
			if w.chance(50) {
				w.late(p, t, w.now+5*time.Second)
			}
			answer(ErrUnknown)
		case !w.hasMajority(leader):
			w.at(30*time.Millisecond, nil, func() { w.replicate(p, t, leader, answer, again) })
		default:
			err := w.appendEntry(p, t)
			if w.reaches(leader, p.n.idx) {
				w.at(w.hop(leader, p.n.idx), nil, func() { answer(err) })
			} else {
				w.at(w.between(0, 2*time.Second), nil, func() { answer(ErrUnknown) })
			}
		}
	})
}

// hop is the time that a message takes.
func (w *world) hop(a, b int) time.Duration {
	if a == b {
		return w.between(0, 50*time.Microsecond)
	}
	if w.lossy && w.chance(2) {
		return w.between(20*time.Millisecond, 400*time.Millisecond)
	}
	d := w.between(100*time.Microsecond, 5*time.Millisecond)
	if !w.lossy { // a stream keeps its order
		link := [2]int{a, b}
		w.arrival[link] = max(w.arrival[link], w.now+d)
		d = w.arrival[link] - w.now
	}
	return d
}

// appendEntry is the moment of truth: guards are held against everything before.
func (w *world) appendEntry(p *proc, t Txn) error {
	for _, g := range t.Guards {
		is, there := w.head[key(g.Table, g.Key)]
		if there != (g.Value != nil) || is != string(g.Value) {
			return ErrConflict
		}
	}
	if len(t.Writes) == 0 {
		return nil
	}
	for _, r := range t.Writes {
		w.checkWrite(p, r)
	}
	for _, r := range t.Writes {
		apply(w.head, r)
	}
	for _, r := range t.Writes {
		w.follow(r)
	}
	w.entries = append(w.entries, simEntry{t.Writes, t.Quiet})
	for _, n := range w.nodes {
		w.applySoon(n, len(w.entries))
	}
	return nil
}

func apply(state map[string]string, r TableRecord) {
	if r.Value == nil {
		delete(state, key(r.Table, r.Key))
	} else {
		state[key(r.Table, r.Key)] = string(r.Value)
	}
}

// applySoon lets a node catch up to an index, when the leader reaches it.
func (w *world) applySoon(n *simNode, index int) {
	d := w.between(100*time.Microsecond, 10*time.Millisecond)
	if w.lossy && w.chance(1) {
		d = w.between(0, time.Second)
	}
	w.at(d, nil, func() {
		p := n.proc
		if p == nil || p.paused || n.applied >= index {
			return
		}
		if !w.reaches(w.leader, n.idx) {
			w.at(100*time.Millisecond, nil, func() { w.applySoon(n, index) })
			return
		}
		w.applyUpTo(n, index)
	})
}

func (w *world) applyUpTo(n *simNode, index int) {
	for ; n.applied < index; n.applied++ {
		e := w.entries[n.applied]
		for _, r := range e.writes {
			apply(n.state, r)
			n.versions[r.Table]++
		}
		if n.proc == nil || e.quiet {
			continue
		}
		for _, o := range n.proc.watchers {
			o.changed(e.writes)
		}
	}
}

// simWatcher follows a table of a node's state; its batches come late, and sometimes all is listed again.
type simWatcher struct {
	p     *proc
	table string
	fn    func([]Record)
	queue [][]Record
	due   bool
	ended bool
}

func (r simRecords) Watch(table string, fn func([]Record)) (stop func()) {
	o := &simWatcher{p: r.p, table: table, fn: fn}
	r.p.watchers = append(r.p.watchers, o)
	o.soon(o.list)
	return func() { o.ended = true }
}

func (o *simWatcher) soon(f func()) {
	w := o.p.w
	o.due = true
	d := w.between(0, 3*time.Millisecond)
	if w.lossy && w.chance(1) {
		d = w.between(0, 500*time.Millisecond)
	}
	w.at(d, o.p, func() {
		o.due = false
		if !o.ended {
			f()
		}
	})
}

func (o *simWatcher) list() {
	o.queue = nil
	if all := scanState(o.p.n.state, o.table); len(all) > 0 {
		o.fn(all)
	}
	o.fn(nil)
}

func (o *simWatcher) changed(writes []TableRecord) {
	var mine []Record
	for _, r := range writes {
		if r.Table == o.table {
			mine = append(mine, r.Record)
		}
	}
	if mine == nil {
		return
	}
	o.queue = append(o.queue, mine)
	if !o.due {
		o.soon(o.deliver)
	}
}

func (o *simWatcher) deliver() {
	if o.p.w.lossy && o.p.w.chance(1) {
		o.list()
		return
	}
	queue := o.queue
	o.queue = nil
	for _, c := range queue {
		o.fn(c)
	}
}
