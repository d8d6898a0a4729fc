package cluster

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// calm starts a world without faults, with nodes of equal weight.
func calm(t *testing.T, seed uint64, nodes int) *world {
	t.Helper()
	w := newWorld(seed, simOptions{})
	for len(w.nodes) < nodes {
		w.addNode()
	}
	for _, n := range w.nodes {
		w.boot(n)
	}
	w.elect()
	w.must(t, 20*time.Second, "the start")
	return w
}

func (w *world) must(t *testing.T, within time.Duration, what string) {
	t.Helper()
	if !w.run(w.now+within, w.settled) {
		t.Fatalf("%s: %s %s", what, w.unsettled(), w.fail)
	}
}

func (w *world) ask(t *testing.T, what string, f func(done func(error))) error {
	t.Helper()
	answers := 0
	var got error
	f(func(err error) { answers++; got = err })
	w.run(w.now+40*time.Second, func() bool { return answers > 0 })
	if answers != 1 {
		t.Fatalf("%s: %d answers", what, answers)
	}
	return got
}

// owned counts the slots of a node by the log.
func (w *world) owned(n *simNode) int {
	count := 0
	for _, r := range scanState(w.head, TableSlot) {
		if s, err := decodeSlot(r.Value); err == nil && s.node == n.id {
			count++
		}
	}
	return count
}

// Drains, joins and a restart of every node, one after the other, while clients call: no call may fail.
func TestPlannedChangesFailNoCall(t *testing.T) {
	var calls, handed int
	for seed := range uint64(min(40, simSeeds)) {
		w := calm(t, seed, 3)
		w.clients()
		w.run(w.now+time.Second, nil)
		by, n := w.nodes[0].proc.node, w.nodes[1]
		if err := w.ask(t, "drain", func(done func(error)) { by.drain(n.id, done) }); err != nil {
			t.Fatal(err)
		}
		if !w.run(w.now+10*time.Second, func() bool { return w.owned(n) == 0 }) {
			t.Fatalf("seed %d: %s keeps %d slots %s", seed, n.id, w.owned(n), w.fail)
		}
		if err := w.ask(t, "undrain", func(done func(error)) { by.undrain(n.id, done) }); err != nil {
			t.Fatal(err)
		}
		w.boot(w.addNode())
		w.must(t, 20*time.Second, "drain, undrain and join")
		for _, n := range w.nodes {
			if err := w.ask(t, "leave", n.proc.node.startLeave); err != nil {
				t.Fatalf("seed %d: %v %s", seed, err, w.fail)
			}
			// What is on its way still passes through the node that has left, as the program lets it.
			w.run(w.now+100*time.Millisecond, nil)
			w.crash(n.proc)
			if n.idx == w.leader {
				w.lead((n.idx + 1) % w.voters)
			}
			w.run(w.now+time.Second, nil)
			w.boot(n)
			w.must(t, 20*time.Second, "restart of "+n.id)
		}
		w.healing = true // no more calls
		w.run(w.now+20*time.Second, nil)
		for _, c := range w.calls {
			if (c.err != nil || c.answers != 1) && !c.orphaned && !errors.Is(c.err, ErrDeadline) {
				t.Errorf("seed %d: call %x to slot %d: %d answers, %v", seed, c.id[:4], c.slot, c.answers, c.err)
			}
		}
		calls, handed = calls+len(w.calls), handed+w.count.handed
		if w.fail != "" || t.Failed() {
			t.Fatalf("seed %d: %s", seed, w.fail)
		}
	}
	t.Logf("%d calls, %d hand-overs, none failed", calls, handed)
}

// A node that is gone without a word: its slots have new owners within W, a poll and a renewal; where it was the leader, no
// later, for an election is shorter than W.
func TestSlotsOfTheDeadMoveInTime(t *testing.T) {
	worst := map[bool]time.Duration{}
	for seed := range uint64(40) {
		w := calm(t, seed, 3)
		n := w.nodes[seed%3]
		leader := n.idx == w.leader
		w.run(w.now+w.between(time.Second, 2*time.Second), nil)
		w.crash(n.proc)
		at := w.now
		if !w.run(w.now+10*time.Second, func() bool { return w.owned(n) == 0 }) || w.fail != "" {
			t.Fatalf("seed %d: %s keeps %d slots %s", seed, n.id, w.owned(n), w.fail)
		}
		worst[leader] = max(worst[leader], w.now-at)
		if w.count.deaths > 1 {
			t.Errorf("seed %d: %d deaths", seed, w.count.deaths)
		}
	}
	t.Logf("the slots of a dead follower had new owners after %v at most, those of a dead leader after %v",
		worst[false].Round(time.Millisecond), worst[true].Round(time.Millisecond))
	if worst[false] > 4500*time.Millisecond || worst[true] > 5*time.Second || worst[true] == 0 {
		t.Errorf("%v", worst)
	}
}

func TestDrainAndRemoveRefuseWhatCannotBe(t *testing.T) {
	w := calm(t, 3, 3)
	n := w.nodes[0].proc.node
	refused := func(what string, want error, f func(done func(error))) {
		t.Helper()
		if err := w.ask(t, what, f); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	refused("drain of a stranger", ErrNoMember, func(done func(error)) { n.drain("x", done) })
	refused("remove of a stranger", ErrNoMember, func(done func(error)) { n.remove("x", done) })
	refused("remove of the living", ErrState, func(done func(error)) { n.remove("n2", done) })
	for _, other := range w.nodes[1:] {
		refused("drain", nil, func(done func(error)) { n.drain(other.id, done) })
	}
	w.run(w.now+time.Second, nil)
	refused("drain of the last active node", ErrState, func(done func(error)) { n.drain("n1", done) })
	if got := n.Members(); got[1].State != StateDraining || got[0].LeaseLeft <= 0 || got[1].LeaseLeft <= 0 {
		t.Errorf("members: %+v", got)
	}
	// A drain holds over a restart, and a dead node can be removed.
	w.run(w.now+5*time.Second, func() bool { return w.owned(w.nodes[1]) == 0 })
	w.crash(w.nodes[1].proc)
	w.boot(w.nodes[1])
	w.run(w.now+5*time.Second, nil)
	if got := n.Members()[1]; got.State != StateDraining || got.Incarnation != 2 {
		t.Errorf("after its restart: %+v", got)
	}
	last := w.nodes[len(w.nodes)-1]
	w.crash(last.proc)
	w.run(w.now+6*time.Second, nil)
	refused("remove of the dead", nil, func(done func(error)) { n.remove(last.id, done) })
	w.run(w.now+time.Second, nil)
	if got := n.Members(); slices.ContainsFunc(got, func(m Member) bool { return m.ID == last.id }) {
		t.Errorf("%s is still there", last.id)
	}
}

// A name belongs to one node, until that is removed.
func TestTheSecondNodeOfANameIsRefused(t *testing.T) {
	w := calm(t, 5, 3)
	twin := w.addNode()
	twin.name = "n1"
	w.boot(twin)
	w.run(w.now+2*time.Second, nil)
	if twin.proc != nil || w.nodes[0].proc == nil {
		t.Error("two nodes have one name")
	}
	if got := len(w.nodes[0].proc.node.Members()); got != len(w.nodes)-1 {
		t.Errorf("%d members", got)
	}
}

// Moves tell what goes on, Check complains about what is not as it should be, and both come to rest.
func TestMovesAndCheck(t *testing.T) {
	w := calm(t, 9, 3)
	n, other := w.nodes[0].proc.node, w.nodes[1]
	w.run(w.now+time.Second, nil)
	if c := n.Check(t.Context()); len(c) != 0 {
		t.Fatalf("complaints: %v", c)
	}
	other.proc.stuck = true
	if err := w.ask(t, "drain", func(done func(error)) { n.drain(other.id, done) }); err != nil {
		t.Fatal(err)
	}
	w.run(w.now+time.Second, nil)
	awaited := 0
	for _, m := range n.Moves() {
		if m.State != MoveDone && m.Awaited == other.id && m.From == other.id && m.To != "" && m.Ended.IsZero() {
			awaited++
		}
	}
	if want := w.owned(other); awaited != want || want == 0 {
		t.Errorf("%d moves await %s, which has %d slots: %+v", awaited, other.id, want, n.Moves())
	}
	states := 0
	for _, m := range other.proc.node.Moves() {
		if m.State == MoveReleasing {
			states++
		}
	}
	if states == 0 || len(n.Check(t.Context())) == 0 {
		t.Errorf("%d slots are being released, complaints: %v", states, n.Check(t.Context()))
	}
	w.unstick(other.proc)
	w.must(t, 10*time.Second, "the drain")
	for _, m := range n.Moves() {
		if m.State != MoveDone || m.Ended.Before(m.Began) || m.Awaited != "" {
			t.Errorf("%+v", m)
		}
	}
}

// A member that hangs in a release is expelled, declared dead, and comes back when its handler lets go.
func TestAHangingMemberIsExpelled(t *testing.T) {
	w := calm(t, 11, 3)
	n, stuck := w.nodes[0].proc.node, w.nodes[1]
	stuck.proc.stuck = true
	at := w.now
	if err := w.ask(t, "drain", func(done func(error)) { n.drain(stuck.id, done) }); err != nil {
		t.Fatal(err)
	}
	if !w.run(w.now+30*time.Second, func() bool { return w.owned(stuck) == 0 }) || w.count.expelled != 1 {
		t.Fatalf("%d slots are left, %d expelled, %s", w.owned(stuck), w.count.expelled, w.fail)
	}
	if took := w.now - at; took < stuckAfter {
		t.Errorf("after %v already", took)
	}
	w.unstick(stuck.proc)
	if err := w.ask(t, "undrain", func(done func(error)) { n.undrain(stuck.id, done) }); err != nil {
		t.Fatal(err)
	}
	w.must(t, 20*time.Second, "its return")
}

// Leave of a node without others, and of all at once, does not wait for anybody.
func TestTheLastNodesLeaveAtOnce(t *testing.T) {
	w := calm(t, 13, 3)
	answers := 0
	for _, n := range w.nodes {
		n.proc.node.startLeave(func(err error) {
			if answers++; err != nil {
				t.Error(err)
			}
		})
	}
	w.run(w.now+20*time.Second, func() bool { return answers == len(w.nodes) })
	if answers != len(w.nodes) || w.fail != "" {
		t.Errorf("%d of %d have left %s", answers, len(w.nodes), w.fail)
	}
}
