package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// simTwin is a twin and its device.
type simTwin struct {
	// since numbers the owners that the twin has had, by slot and since of the slot's record.
	since  map[tenancy]int
	newest int
	// wrote is the newest owner that wrote to the device.
	wrote  int
	writer *proc
}

// tenancy is an owner of a twin.
type tenancy struct {
	slot  Slot
	since uint64
}

// simCall is a client's call and what became of it.
type simCall struct {
	id       [16]byte
	slot     Slot
	origin   *proc
	answers  int
	err      error
	runs     int
	doubled  bool // the network delivered it twice
	reborn   bool // its twin was deleted meanwhile, and with it what it remembered
	orphaned bool // its origin's process ended
}

// deviceWrite is checked at every write: no older owner after a newer one, but for the one write of a process that was
// paused between its check and the write.
func (w *world) deviceWrite(t *tenure, id *[16]byte, paused bool) {
	w.count.writes++
	d := &w.twins[twinOf(t.own.Slot)]
	by := d.since[tenancy{t.own.Slot, t.own.Since}]
	if by == 0 {
		w.violated("single writer: %s wrote to the device of twin %d as owner %d of slot %d, where the twin has never been",
			t.e.p.n.id, twinOf(t.own.Slot), t.own.Since, t.own.Slot)
	}
	if by < d.wrote {
		if !paused {
			w.violated("single writer: %s wrote to the device of twin %d as its owner number %d, %s had written as number %d",
				t.e.p.n.id, twinOf(t.own.Slot), by, d.writer.n.id, d.wrote)
		}
		w.count.leaks++
	} else {
		d.wrote, d.writer = by, t.e.p
	}
	if id != nil {
		if c := w.byID[*id]; c != nil {
			w.trace(c.id, "%s writes since %d", t.e.p.n.id, t.own.Since)
			if c.runs++; c.runs > 1 && !c.reborn {
				w.violated("at most once: call %x to slot %d ran %d times", c.id[:4], c.slot, c.runs)
			}
		}
	}
	w.checkWriter(twinOf(t.own.Slot))
}

// checkWriter: at most one process may begin a write to a device.
func (w *world) checkWriter(d int) {
	var first *proc
	for _, n := range w.nodes {
		if n.proc == nil || !n.proc.engine.mayWrite(d) {
			continue
		}
		if first != nil {
			w.violated("single writer: %s and %s may both write to the device of twin %d", first.n.id, n.id, d)
		}
		first = n.proc
	}
}

func (w *world) checkWriters() {
	for d := range simSlots {
		w.checkWriter(d)
	}
}

// checkWrite is asked about every record before it becomes true.
func (w *world) checkWrite(p *proc, r TableRecord) {
	was := []byte(w.head[key(r.Table, r.Key)])
	switch r.Table {
	case TableSlot:
		w.checkFlip(p, r, was)
	case "state":
		if simTrace == "state"+r.Key {
			fmt.Println(w.now, p.n.id, "commits", len(r.Value), fmt.Sprintf("%x", r.Value[len(r.Value)-16:len(r.Value)-12]))
		}
		w.checkState(r, was)
	case TableMember:
		if m, err := DecodeMember(r.Key, r.Value); err == nil && m.State == StateDead {
			w.count.deaths++
		} else if err == nil && m.State == StateExpelled {
			w.count.expelled++
		}
	}
}

// checkFlip: a slot's since rises by one, and a living owner flips its own slots itself, after it has let go.
func (w *world) checkFlip(p *proc, r TableRecord, was []byte) {
	if simTrace == "flips" {
		fmt.Println(w.now, p.n.id, "flips", r.Key, string(r.Value))
	}
	w.count.flips++
	s, _ := parseSlotKey(r.Key)
	next, err := decodeSlot(r.Value)
	if err != nil {
		w.violated("record: %v", err)
	}
	if len(was) == 0 {
		return
	}
	before, err := decodeSlot(was)
	if err != nil || next.since != before.since+1 {
		w.violated("order: slot %d went from since %d to %d", s, before.since, next.since)
	}
	value, there := w.head[key(TableMember, before.node)]
	m, err := DecodeMember(before.node, []byte(value))
	if !there || err != nil || !m.alive() && m.State != StateExpelled {
		return
	}
	if p.n.id != before.node {
		w.violated("forced: %s took slot %d from %s, which is %s", p.n.id, s, before.node, m.State)
	}
	if next.node != before.node {
		w.count.handed++
	}
	if owner := p.n.proc; m.Incarnation == before.incarnation && owner != nil && owner.engine.mayAct(s) {
		w.violated("forced: %s gave slot %d away while its handler may still act on it", before.node, s)
	}
}

// call is one client's call to a random twin by a random node.
func (w *world) call(p *proc, s Slot) *simCall {
	c := &simCall{slot: s, origin: p} // the twin's number, whichever class it is in
	binary.BigEndian.PutUint64(c.id[:], uint64(len(w.calls)+1)*0x9E3779B97F4A7C15)
	w.calls = append(w.calls, c)
	w.byID[c.id] = c
	w.count.calls++
	env := &Envelope{ID: c.id, Target: Target{"twin", simTargets[s]}}
	if w.chance(30) {
		env.Deadline = w.wall().Add(w.between(10*time.Millisecond, 5*time.Second))
	}
	w.trace(c.id, "%s calls slot %d", p.n.id, s)
	p.node.Call(env, func(r Reply) { w.answered(c, r) })
	return c
}

func (w *world) answered(c *simCall, r Reply) {
	w.trace(c.id, "answered %v", r.Err)
	if c.answers++; c.answers > 1 {
		w.violated("one answer: call %x got %d", c.id[:4], c.answers)
	}
	c.err = r.Err
	switch {
	case r.Err == nil:
		w.count.ok++
		if !c.reborn && !hasRun([]byte(w.head[key("state", slotKey(c.slot))]), c.id) {
			w.violated("acknowledged: call %x to slot %d was answered before its effect was committed", c.id[:4], c.slot)
		}
	case errors.Is(r.Err, ErrUnknown):
		w.count.unknown++
	default:
		w.count.refused++
		if errors.Is(r.Err, ErrSelector) {
			w.count.nobody++
		}
		if c.runs > 0 && !c.doubled && !c.reborn {
			w.violated("outcome: call %x ran and was answered %v", c.id[:4], r.Err)
		}
	}
}

// settled tells whether every slot is with its target, which lives and takes calls.
func (w *world) settled() bool { return w.unsettled() == "" }

func (w *world) unsettled() string {
	for _, n := range w.nodes {
		if n.removed {
			continue
		}
		if n.proc == nil {
			return n.id + " is down"
		}
		if !n.proc.begun {
			return n.id + " has not started: " + n.proc.node.missingNow()
		}
		if n.proc.leaving {
			return n.id + " is about to stop"
		}
	}
	classes := scanState(w.head, tableClass)
	for k := Class(0); int(k) <= len(classes); k++ {
		all := w.candidates(k)
		for i := range Slot(simSlots) {
			if all == nil {
				continue // nobody may have it
			}
			if why := w.unsettledSlot(k.first()+i, all); why != "" {
				return why
			}
		}
	}
	return w.unsettledTwins()
}

func (w *world) unsettledSlot(s Slot, all []Candidate) string {
	rec, err := decodeSlot([]byte(w.head[key(TableSlot, slotKey(s))]))
	want := Propose(s, all)
	if err != nil || rec.node != want {
		return fmt.Sprintf("slot %d belongs to %q, its target is %q", s, rec.node, want)
	}
	for _, n := range w.nodes {
		if n.proc == nil {
			continue
		}
		o := n.proc.node.owners[s].Load()
		if o == nil || o.since != rec.since || o.mine != (n.id == want) || o.mine && !o.admitted.Load() {
			return fmt.Sprintf("slot %d of %s at %d: %s has not got it", s, want, rec.since, n.id)
		}
	}
	return ""
}

// simulate runs one seed; "" where nothing was violated.
func simulate(seed uint64, opt simOptions) *world {
	w := newWorld(seed, opt)
	for _, n := range w.nodes {
		w.boot(n)
	}
	w.elect()
	if !w.run(w.now+20*time.Second, w.settled) && w.fail == "" {
		w.violated("start: %s", w.unsettled())
	}
	w.lossy = true
	w.clients()
	w.trouble()
	if !opt.still {
		w.changes()
	}
	w.run(w.now+w.between(15*time.Second, 40*time.Second), nil)
	w.heal()
	if !w.run(w.now+60*time.Second, w.settled) && w.fail == "" {
		w.violated("healing: a minute later %s", w.unsettled())
	}
	w.lastCalls()
	return w
}

// lastCalls: after the healing every call succeeds, and every call has had its answer.
func (w *world) lastCalls() {
	if w.fail != "" {
		return
	}
	w.run(w.now+6*time.Second, nil) // entries of before may still come late
	var last []*simCall
	for s := range Slot(simSlots) {
		for _, n := range w.nodes {
			if n.proc != nil {
				n := n
				w.at(0, n.proc, func() { last = append(last, w.call(n.proc, s)) })
			}
		}
	}
	w.run(w.now+20*time.Second, nil)
	for _, c := range last {
		if c.answers != 1 || !w.rightly(c) {
			w.violated("healing: call %x to slot %d by %s: %d answers, %v", c.id[:4], c.slot, c.origin.n.id, c.answers, c.err)
		}
	}
	for _, c := range w.calls {
		if c.answers == 0 && !c.orphaned {
			w.violated("one answer: call %x to slot %d by %s got none", c.id[:4], c.slot, c.origin.n.id)
		}
	}
}

// trace prints what happens to the call that TRACE names.
func (w *world) trace(id [16]byte, format string, args ...any) {
	if simTrace != "" && strings.HasPrefix(fmt.Sprintf("%x", id), simTrace) {
		fmt.Printf("%v %s\n", w.now, fmt.Sprintf(format, args...))
	}
}

var (
	simTrace = os.Getenv("TRACE")
	simSeeds = 300
)

func envInt(name string, or int) int {
	if v, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return v
	}
	return or
}

// TestSimulation runs SEEDS seeds, or the one SEED.
func TestSimulation(t *testing.T) {
	first, seeds := 1, envInt("SEEDS", simSeeds)
	if one := envInt("SEED", 0); one > 0 {
		first, seeds = one, 1
	}
	var sum world
	began := time.Now()
	for seed := first; seed < first+seeds; seed++ {
		w := simulate(uint64(seed), simOptions{})
		if w.fail != "" {
			t.Fatalf("seed %d: %s", seed, w.fail)
		}
		sum.add(w)
	}
	t.Logf("%d seeds from %d, %d steps in %v, no violation of: single writer, fence, order, forced, acknowledged, at most once, one answer, outcome, healing",
		seeds, first, sum.steps, time.Since(began).Round(time.Millisecond))
	t.Logf("%+v", sum.count)
}

// A seed gives the same run each time, step by step.
func TestSimulationIsReproducible(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		a, b := simulate(seed, simOptions{}), simulate(seed, simOptions{})
		if a.steps != b.steps || a.now != b.now || a.count != b.count || !maps.Equal(a.head, b.head) {
			t.Errorf("seed %d: %d steps to %v with %+v, then %d to %v with %+v", seed, a.steps, a.now, a.count, b.steps, b.now, b.count)
		}
	}
}

func (w *world) add(o *world) {
	w.steps += o.steps
	c, d := &w.count, o.count
	c.calls += d.calls
	c.ok += d.ok
	c.unknown += d.unknown
	c.refused += d.refused
	c.writes += d.writes
	c.flips += d.flips
	c.leaks += d.leaks
	c.deaths += d.deaths
	c.expelled += d.expelled
	c.handed += d.handed
	c.shifted += d.shifted
	c.made += d.made
	c.removed += d.removed
	c.nobody += d.nobody
}
