package cluster

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// reply of one call in a world without faults.
func (w *world) reply(t *testing.T, p *proc, env *Envelope) Reply {
	t.Helper()
	var got []Reply
	p.node.Call(env, func(r Reply) { got = append(got, r) })
	w.run(w.now+20*time.Second, func() bool { return len(got) > 0 })
	if len(got) != 1 {
		t.Fatalf("%d answers", len(got))
	}
	return got[0]
}

// elsewhere gives the target of a slot that another node than p owns, and that node.
func (w *world) elsewhere(p *proc) (Target, *simNode) {
	for s := range simTargets {
		o := p.node.owners[s].Load()
		for _, n := range w.nodes {
			if n.id == o.node && n.proc != p {
				return Target{"twin", simTargets[s]}, n
			}
		}
	}
	return Target{}, nil
}

func TestAChainAcrossNodesIsACycle(t *testing.T) {
	w := calm(t, 2, 3)
	a := w.nodes[0].proc
	there, owner := w.elsewhere(a)
	here := Target{"twin", "sim/of-a"}
	// a's twin calls b's, which calls back on its own node: the way is in the envelope.
	back := &Envelope{Target: here, Chain: []string{"twin:" + here.ID, "twin:" + there.ID}}
	if r := w.reply(t, owner.proc, back); !errors.Is(r.Err, ErrCycle) || !strings.Contains(r.Err.Error(), here.ID) {
		t.Errorf("%v", r.Err)
	}
	if owner.proc.node.Refused()["cycle"] != 1 {
		t.Errorf("refusals: %v", owner.proc.node.Refused())
	}
	if r := w.reply(t, a, &Envelope{Target: there, Chain: []string{"twin:" + here.ID}}); r.Err != nil {
		t.Errorf("a chain without its target: %v", r.Err)
	}
}

func TestEnvelopesToNodesReachTheirHandler(t *testing.T) {
	w := calm(t, 2, 3)
	var heard []string
	for _, n := range w.nodes[:2] {
		n.proc.node.o.NodeHandler = func(env *Envelope, done func(Reply)) {
			heard = append(heard, n.id+" "+env.Target.ID)
			done(Reply{})
		}
	}
	a := w.nodes[0].proc
	for _, id := range []string{"n1", "n2"} {
		if r := w.reply(t, a, &Envelope{Target: Target{KindNode, id}}); r.Err != nil {
			t.Error(r.Err)
		}
	}
	if got := strings.Join(heard, ", "); got != "n1 n1, n2 n2" {
		t.Errorf("heard %q", got)
	}
	for _, id := range []string{"n3", "n9"} { // one without a handler, one that is not there
		if r := w.reply(t, a, &Envelope{Target: Target{KindNode, id}}); !errors.Is(r.Err, ErrUnavailable) {
			t.Errorf("%s: %v", id, r.Err)
		}
	}
}

// A node that is cut off says so within its lease, touches no device, and heals without help.
func TestAMinorityRefuses(t *testing.T) {
	w := calm(t, 4, 3)
	w.clients()
	n := w.nodes[(w.leader+1)%w.voters]
	for j := range w.nodes {
		if j != n.idx {
			w.cut[[2]int{n.idx, j}], w.cut[[2]int{j, n.idx}] = true, true
		}
	}
	w.run(w.now+time.Duration(float64(DefaultDuration)/n.rate)+100*time.Millisecond, nil)
	for s := range simTargets {
		if r := w.reply(t, n.proc, &Envelope{Target: Target{"twin", simTargets[s]}}); !errors.Is(r.Err, ErrUnavailable) ||
			!strings.Contains(r.Err.Error(), "no quorum") {
			t.Fatalf("slot %d: %v", s, r.Err)
		}
		if n.proc.engine.owned[s] != nil {
			t.Fatalf("its handler still has slot %d", s)
		}
	}
	began := w.now
	if err := w.ask(t, "leave", n.proc.node.startLeave); !errors.Is(err, ErrUnavailable) || w.now > began+100*time.Millisecond {
		t.Errorf("it cannot leave: %v after %v", err, w.now-began)
	}
	w.run(w.now+2*time.Second, nil)
	if left := w.owned(n); left > 0 {
		t.Errorf("%d of its slots have no other owner", left)
	}
	if other := w.nodes[w.leader].proc; w.reply(t, other, &Envelope{Target: Target{"twin", simTargets[0]}}).Err != nil {
		t.Error("the majority does not answer")
	}
	clear(w.cut)
	w.run(w.now+20*time.Second, func() bool { return n.proc.node.self.Revival > 0 && w.settled() })
	if m := n.proc.node.Members()[n.idx]; m.Revival != 1 || m.State != StateActive {
		t.Errorf("%+v", m)
	}
}

// Calls made one after the other while their slot moves run in their order.
func TestParkedCallsKeepTheirOrder(t *testing.T) {
	w := calm(t, 6, 3)
	n := w.nodes[1]
	var s Slot
	for s = 0; n.proc.engine.owned[s] == nil; s++ {
	}
	n.proc.stuck = true // until the calls wait
	if err := w.ask(t, "drain", func(done func(error)) { w.nodes[0].proc.node.drain(n.id, done) }); err != nil {
		t.Fatal(err)
	}
	w.run(w.now+time.Second, nil)
	const calls = 20
	var answered []int
	for i := range calls {
		env := &Envelope{Target: Target{"twin", simTargets[s]}}
		env.ID[0] = byte(i + 1)
		n.proc.node.Call(env, func(r Reply) {
			if r.Err != nil {
				t.Errorf("call %d: %v", i, r.Err)
			}
			answered = append(answered, i)
		})
	}
	if got := n.proc.node.Stats().Parked; got != calls {
		t.Fatalf("%d calls wait", got)
	}
	w.unstick(n.proc)
	w.run(w.now+10*time.Second, func() bool { return len(answered) == calls })
	value := []byte(w.head[key("state", slotKey(s))])
	for i := range calls {
		if at := 8 + 16*i; len(value) < at+16 || value[at] != byte(i+1) {
			t.Fatalf("run %d was call %d", i, value[at]-1)
		}
	}
}

// releasing has a node drained that does not let go, and gives it and a slot that it is to release: calls of it wait.
func (w *world) releasing(t *testing.T) (n *simNode, s Slot) {
	t.Helper()
	n = w.nodes[1]
	n.proc.stuck = true
	if err := w.ask(t, "drain", func(done func(error)) { w.nodes[0].proc.node.drain(n.id, done) }); err != nil {
		t.Fatal(err)
	}
	w.run(w.now+time.Second, nil)
	for n.proc.node.phases[s] != phaseReleasing {
		s++
	}
	return n, s
}

// Where too many calls wait they are refused, and what waits is answered when the node closes.
func TestParkingIsBounded(t *testing.T) {
	n, s := calm(t, 8, 3).releasing(t)
	overloaded, closed := 0, 0
	for range maxParked + 7 {
		n.proc.node.Call(&Envelope{Target: Target{"twin", simTargets[s]}}, func(r Reply) {
			switch {
			case errors.Is(r.Err, ErrOverloaded):
				overloaded++
			case errors.Is(r.Err, ErrUnavailable):
				closed++
			default:
				t.Errorf("%v", r.Err)
			}
		})
	}
	if overloaded != 7 || n.proc.node.Refused()["parked_full"] != 7 {
		t.Errorf("%d refused, %v", overloaded, n.proc.node.Refused())
	}
	if err := n.proc.node.Close(); err != nil || closed != maxParked {
		t.Errorf("%d answered at the end, %v", closed, err)
	}
}

// A node that is about to end tells the calls that wait, and those that would, that they did not run; others it passes on.
func TestTurnAway(t *testing.T) {
	w := calm(t, 8, 3)
	n, moving := w.releasing(t)
	var others Slot
	for others = 0; n.proc.node.owners[others].Load().mine; others++ {
	}
	var answers []error
	call := func() {
		n.proc.node.Call(&Envelope{Target: Target{"twin", simTargets[moving]}}, func(r Reply) { answers = append(answers, r.Err) })
	}
	call()
	call()
	if len(answers) != 0 {
		t.Fatalf("answered before: %v", answers)
	}
	n.proc.node.TurnAway()
	call()
	for _, err := range answers {
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown) {
			t.Errorf("%v", err)
		}
	}
	if len(answers) != 3 {
		t.Errorf("%d of 3 answered", len(answers))
	}
	if r := w.reply(t, n.proc, &Envelope{Target: Target{"twin", simTargets[others]}}); r.Err != nil {
		t.Errorf("another node's: %v", r.Err)
	}
}
