package cluster

import "time"

// clients make calls until the healing begins.
func (w *world) clients() {
	if w.healing {
		return
	}
	w.at(w.between(5*time.Millisecond, 60*time.Millisecond), nil, w.clients)
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if n.proc != nil && n.proc.begun {
		s := Slot(w.rng.IntN(simSlots))
		w.at(0, n.proc, func() { w.call(n.proc, s) })
	}
}

// trouble makes one fault now and then.
func (w *world) trouble() {
	if w.healing {
		return
	}
	w.at(w.between(200*time.Millisecond, 2500*time.Millisecond), nil, w.trouble)
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	p := n.proc
	if p == nil {
		if !n.removed && w.chance(30) {
			w.remove(n)
		}
		return
	}
	switch w.rng.IntN(12) {
	case 0, 1:
		w.pause(p, w.between(100*time.Millisecond, 8*time.Second))
	case 2:
		w.crash(p)
		w.at(w.between(300*time.Millisecond, 9*time.Second), nil, func() { w.boot(n) })
	case 3, 4:
		w.partition(n)
	case 5, 6:
		w.at(0, p, func() { p.node.drain(n.id, func(error) {}) })
		w.at(w.between(500*time.Millisecond, 8*time.Second), nil, func() { w.undrain(n) })
	case 7:
		w.leave(p)
	case 8:
		if len(w.nodes) < w.voters+2 {
			w.boot(w.addNode())
		}
	case 9:
		p.stuck = true
		w.at(w.between(time.Second, 20*time.Second), nil, func() { w.unstick(p) })
	case 10:
		if other := w.rng.IntN(w.voters); w.hasMajority(other) {
			w.lead(other)
		}
	case 11:
		w.pause(p, w.between(3*time.Second, 6*time.Second)) // about a lease
	}
}

// partition cuts one or both directions between a node and some others for a while.
func (w *world) partition(n *simNode) {
	var links [][2]int
	for j := range w.nodes {
		if j == n.idx || w.chance(25) {
			continue
		}
		how := w.rng.IntN(4)
		if how != 1 {
			links = append(links, [2]int{n.idx, j})
		}
		if how != 2 {
			links = append(links, [2]int{j, n.idx})
		}
	}
	for _, l := range links {
		w.cut[l] = true
	}
	w.at(w.between(300*time.Millisecond, 10*time.Second), nil, func() {
		for _, l := range links {
			delete(w.cut, l)
		}
	})
}

func (w *world) undrain(n *simNode) {
	for _, by := range w.nodes {
		if p := by.proc; p != nil && p.begun {
			w.at(0, p, func() { p.node.undrain(n.id, func(error) {}) })
			return
		}
	}
}

// leave is a planned stop, bounded as the program bounds it.
func (w *world) leave(p *proc) {
	if p.leaving || !p.begun {
		return
	}
	p.leaving = true
	stop := func() {
		if !p.gone {
			w.crash(p)
			w.at(w.between(300*time.Millisecond, 5*time.Second), nil, func() { w.boot(p.n) })
		}
	}
	w.at(0, p, func() { p.node.startLeave(func(error) { w.at(0, nil, stop) }) })
	w.at(30*time.Second, nil, stop)
}

// remove forgets a node that is down, if it is known as dead; voters stay, they are the quorum.
func (w *world) remove(n *simNode) {
	if n.idx < w.voters {
		return
	}
	for _, by := range w.nodes {
		if p := by.proc; p != nil && p.begun && !p.paused {
			p.node.remove(n.id, func(err error) { n.removed = n.removed || err == nil && n.proc == nil })
			return
		}
	}
}

func (w *world) unstick(p *proc) {
	p.stuck = false
	if p.gone {
		return
	}
	w.at(0, p, func() {
		for s := range p.engine.live {
			for _, t := range append([]*tenure(nil), p.engine.live[s]...) {
				t.ending()
			}
		}
	})
}

// heal ends every fault.
func (w *world) heal() {
	w.healing, w.lossy = true, false
	clear(w.cut)
	if lost := w.nodes[w.rng.IntN(w.voters)]; w.chance(20) {
		// One machine is gone for good; a majority is left.
		if lost.removed = true; lost.proc != nil {
			w.crash(lost.proc)
		}
	}
	for _, n := range w.nodes {
		if p := n.proc; p != nil {
			w.resume(p)
			w.unstick(p)
		} else {
			w.boot(n)
		}
		w.undrainAt(n, 0)
		w.undrainAt(n, 12*time.Second)
	}
}

func (w *world) undrainAt(n *simNode, d time.Duration) { w.at(d, nil, func() { w.undrain(n) }) }
