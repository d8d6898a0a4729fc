package cluster

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"
)

// The simulation runs the production Node, unchanged, in one goroutine: time is a queue of events, and the clocks, the
// log, the network and the handler are models. All chance comes from the seed.

const (
	simSlots = 24
	// simTenures is how many slots there are in all classes.
	simTenures = simSlots * (1 + len(simSelectors))
)

// simSelectors are the classes that twins may be in: what half of the nodes satisfies, the other half, and those that join
// later, so that at times nobody does.
var simSelectors = [...]string{"zone=a", "zone=b", "zone=c"}

// twinOf is the number of the twin, and of the device, that may live in a slot.
func twinOf(s Slot) int { return int(s - s.Class().first()) }

// tenureOf numbers the slots of all classes.
func tenureOf(s Slot) int { return int(s.Class())*simSlots + twinOf(s) }

// simTargets has one actor, and one device, for each slot of a class.
var simTargets = func() (ids [simSlots]string) {
	for i, found := 0, 0; found < simSlots; i++ {
		id := fmt.Sprintf("sim/%d", i)
		if s := SlotOf(id); s < simSlots && ids[s] == "" {
			ids[s] = id
			found++
		}
	}
	return ids
}()

type event struct {
	at   time.Duration
	seq  uint64
	proc *proc // nil: the world's own
	f    func()
}

type events []*event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// simOptions say what is switched off.
type simOptions struct {
	faults   faults
	still    bool // no twin changes its selector
	noDedupe bool // the handler runs a call id again
	oneStep  bool // a change of the selector changes the twin's place at once
	noLook   bool // the handler does not look whether a twin lives in the slot
	noFence  bool // checkpoints carry no guard on the slot's record
	ackEarly bool // the handler answers before its checkpoint is committed
	unsent   bool // the transport says of a call whose answer is lost that it was not sent
}

type world struct {
	opt   simOptions
	rng   *rand.Rand
	now   time.Duration // true time
	queue events
	seq   uint64
	steps int

	nodes  []*simNode
	voters int
	cut    map[[2]int]bool // links that lose everything, by direction
	lossy  bool
	// arrival is when the latest message of a link comes.
	arrival map[[2]int]time.Duration

	head    map[string]string // the log's result
	entries []simEntry
	leader  int // -1: none
	// leaderless is since when the leader has had no majority; 0: it has.
	leaderless time.Duration

	twins   [simSlots]simTwin
	revs    uint64 // of twins' records
	calls   []*simCall
	byID    map[[16]byte]*simCall
	healing bool

	count struct{ calls, ok, unknown, refused, writes, flips, leaks, deaths, expelled, handed, shifted, made, removed, nobody int }
	fail  string // the first violation
}

func newWorld(seed uint64, opt simOptions) *world {
	w := &world{opt: opt, rng: rand.New(rand.NewPCG(seed, 7)), cut: map[[2]int]bool{}, head: map[string]string{}, leader: -1,
		byID: map[[16]byte]*simCall{}, arrival: map[[2]int]time.Duration{}, now: time.Second}
	for d := range simSlots {
		w.head[key("twin", simTargets[d])] = simRecord(0, 0)
		w.twins[d].since = map[tenancy]int{}
		w.place(d)
	}
	w.voters = 3 + w.rng.IntN(2)*2
	for range w.voters {
		w.addNode()
	}
	return w
}

// violated keeps the first thing that must not be.
func (w *world) violated(format string, args ...any) {
	if w.fail == "" {
		w.fail = fmt.Sprintf("at %v: ", w.now.Round(time.Microsecond)) + fmt.Sprintf(format, args...)
	}
}

// at runs f in d of true time; for a process only while it lives and is not paused.
func (w *world) at(d time.Duration, p *proc, f func()) *event {
	w.seq++
	e := &event{w.now + max(d, 0), w.seq, p, f}
	heap.Push(&w.queue, e)
	return e
}

// between draws a duration.
func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rng.Int64N(int64(b-a)+1))
}

func (w *world) chance(percent float64) bool { return w.rng.Float64()*100 < percent }

// run goes on until the time has come, cond holds or something is violated.
func (w *world) run(until time.Duration, cond func() bool) bool {
	for w.fail == "" && len(w.queue) > 0 && w.queue[0].at <= until {
		e := heap.Pop(&w.queue).(*event)
		w.now = e.at
		switch {
		case e.f == nil:
			continue
		case e.proc == nil:
		case e.proc.gone:
			continue
		case e.proc.paused:
			e.proc.backlog = append(e.proc.backlog, e)
			continue
		}
		w.steps++
		e.f()
		if w.steps%64 == 0 {
			w.checkWriters()
		}
		if cond != nil && w.steps%32 == 0 && cond() {
			return true
		}
	}
	w.now = max(w.now, until)
	return false
}

// simNode is a machine with its disk; proc is the process that runs on it.
type simNode struct {
	w           *world
	idx         int
	id, name    string
	rate        float64 // of its clock
	offset      time.Duration
	incarnation uint64
	weight      uint32
	zone        string
	proc        *proc
	removed     bool
	// state is what the log has made here up to applied.
	state    map[string]string
	applied  int
	versions map[string]uint64 // writes to a table
	// believes is until when it takes itself for the leader though it is not.
	believes time.Duration
}

func (w *world) addNode() *simNode {
	i := len(w.nodes)
	n := &simNode{w: w, idx: i, id: fmt.Sprintf("n%d", i+1), name: fmt.Sprintf("n%d", i+1), rate: 0.955 + 0.09*w.rng.Float64(), offset: w.between(0, time.Hour),
		weight: 1 + uint32(w.rng.IntN(3)), state: map[string]string{}, versions: map[string]uint64{}, zone: "a"}
	if i%2 == 1 {
		n.zone = "b"
	}
	if i >= w.voters {
		n.zone = "c"
	}
	for d := range simSlots {
		n.state[key("twin", simTargets[d])] = simRecord(0, 0)
	}
	w.nodes = append(w.nodes, n)
	return n
}

// proc is one process: an incarnation of a node.
type proc struct {
	w       *world
	n       *simNode
	node    *Node
	engine  *simEngine
	gone    bool
	paused  bool
	pauses  int
	begun   bool
	leaving bool
	// stuck releases never end.
	stuck    bool
	backlog  []*event
	watchers []*simWatcher
}

// boot starts a process when the node's disk has caught up with the log.
func (w *world) boot(n *simNode) {
	if n.proc != nil || n.removed {
		return
	}
	if !w.reaches(w.leader, n.idx) && w.leader != n.idx && len(w.entries) > 0 {
		w.at(200*time.Millisecond, nil, func() { w.boot(n) })
		return
	}
	w.applyUpTo(n, len(w.entries))
	n.incarnation++
	p := &proc{w: w, n: n}
	n.proc = p
	p.engine = &simEngine{w: w, p: p, started: map[[16]byte]bool{}}
	p.node = newNode(Options{
		Self:    Member{ID: n.id, Name: n.name, Incarnation: n.incarnation, Weight: n.weight, AvailabilityZone: n.zone, boot: 1 + w.rng.Uint64()>>1},
		Records: simRecords{p}, Handler: p.engine, Transport: simTransport{p}, Clock: simClock{p},
		Leader: func() bool { return w.leader == n.idx || w.now < n.believes },
		Superseded: func(error) {
			_, member := w.head[key(TableMember, n.id)]
			n.removed = !member
			w.at(0, nil, func() { w.crash(p) })
		},
		Shift: p.shiftGone,
		wall:  w.wall, slots: simSlots, faults: w.opt.faults,
	})
	p.node.begin(func(err error) {
		if p.begun = err == nil; err != nil {
			if simTrace == n.id {
				fmt.Println(w.now, n.id, "start:", err)
			}
			w.at(0, nil, func() { w.crash(p) })
		}
	})
}

func (w *world) wall() time.Time { return time.Unix(1_000_000_000, 0).Add(w.now) }

// crash ends a process; its proposals and messages on their way are not called back.
func (w *world) crash(p *proc) {
	if p.gone {
		return
	}
	if simTrace == p.n.id {
		fmt.Println(w.now, p.n.id, "ends")
	}
	p.gone = true
	p.n.proc = nil
	for _, c := range w.calls {
		if c.origin == p {
			c.orphaned = true
		}
	}
}

func (w *world) pause(p *proc, d time.Duration) {
	if p.gone || p.paused {
		return
	}
	p.paused = true
	p.pauses++
	w.at(d, nil, func() { w.resume(p) })
}

func (w *world) resume(p *proc) {
	if p.gone || !p.paused {
		return
	}
	p.paused = false
	if p.n.idx != w.leader {
		p.n.believes = min(p.n.believes, w.now+w.between(0, 500*time.Millisecond))
	}
	late := p.backlog
	p.backlog = nil
	for _, e := range late {
		w.at(w.between(0, time.Millisecond), p, e.f)
	}
	w.applySoon(p.n, len(w.entries))
}

// reaches tells whether messages go from a to b now.
func (w *world) reaches(a, b int) bool {
	return a >= 0 && b >= 0 && (a == b || !w.cut[[2]int{a, b}])
}

// up tells whether a process runs and is not paused.
func (w *world) up(i int) bool { p := w.nodes[i].proc; return p != nil && !p.paused }

// simClock is a node's own clock: it drifts, and goes on while the node is paused.
type simClock struct{ p *proc }

func (c simClock) Now() time.Duration {
	return c.p.n.offset + time.Duration(float64(c.p.w.now)*c.p.n.rate)
}

func (c simClock) AfterFunc(d time.Duration, f func()) func() bool {
	w := c.p.w
	real := time.Duration(float64(d)/c.p.n.rate) + w.between(0, 2*time.Millisecond)
	e := w.at(real, c.p, nil)
	e.f = func() { e.f = nil; f() }
	return func() bool {
		was := e.f != nil
		e.f = nil
		return was
	}
}
