package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// Twins get other selectors, nodes join, leave and come back, while clients call: no call may fail.
func TestSelectorChangesFailNoCall(t *testing.T) {
	var calls, shifted int
	for seed := range uint64(min(30, simSeeds)) {
		w := calm(t, seed, 4)
		w.clients()
		for range 60 {
			n := w.nodes[w.rng.IntN(len(w.nodes))]
			id, to := simTargets[w.rng.IntN(simSlots)], w.rng.IntN(3)
			if to == 0 {
				w.at(0, n.proc, func() { w.change(n.proc, id, 0) })
			} else {
				n.proc.node.makeClass(simSelectors[to-1], func(c Class, err error) {
					if err != nil {
						t.Errorf("seed %d: %v", seed, err)
					}
					w.at(0, n.proc, func() { w.change(n.proc, id, c) })
				})
			}
			w.run(w.now+w.between(0, 100*time.Millisecond), nil)
		}
		n := w.nodes[2*w.rng.IntN(2)] // they are not the only ones in their zone
		if err := w.ask(t, "leave", n.proc.node.startLeave); err != nil {
			t.Fatalf("seed %d: %v %s", seed, err, w.fail)
		}
		w.run(w.now+100*time.Millisecond, nil)
		w.crash(n.proc)
		if n.idx == w.leader {
			w.lead((n.idx + 1) % w.voters)
		}
		w.run(w.now+time.Second, nil)
		w.boot(n)
		w.must(t, 20*time.Second, "restart of "+n.id)
		w.healing = true // no more calls
		w.run(w.now+20*time.Second, nil)
		for _, c := range w.calls {
			if (c.err != nil || c.answers != 1) && !c.orphaned && !errors.Is(c.err, ErrDeadline) {
				t.Errorf("seed %d: call %x to twin %d: %d answers, %v", seed, c.id[:4], c.slot, c.answers, c.err)
			}
		}
		calls, shifted = calls+len(w.calls), shifted+w.count.shifted
		if w.fail != "" || t.Failed() {
			t.Fatalf("seed %d: %s", seed, w.fail)
		}
	}
	t.Logf("%d calls, %d changes of the place, none failed", calls, shifted)
}

// A node whose store has a twin's new place before its router has seen the first selector: its handler does not take the calls
// that the router brings to the slot where the twin was. They wait for the router, there and at others.
func TestCallsWaitForARouterThatIsBehind(t *testing.T) {
	w := calm(t, 6, 4)
	owner, other := w.nodes[0].proc, w.nodes[2].proc
	var d Slot
	for !owner.node.owners[d].Load().mine {
		d++
	}
	late := func(p *proc) *simWatcher {
		i := slices.IndexFunc(p.watchers, func(o *simWatcher) bool { return o.table == tableClass })
		p.watchers[i].due = true // what comes for it waits
		return p.watchers[i]
	}
	watchers := []*simWatcher{late(owner), late(other)}
	if err := w.ask(t, "a selector", func(done func(error)) {
		w.nodes[1].proc.node.makeClass(simSelectors[1], func(c Class, err error) {
			w.at(0, w.nodes[1].proc, func() { w.change(w.nodes[1].proc, simTargets[d], c) })
			done(err)
		})
	}); err != nil {
		t.Fatal(err)
	}
	if !w.run(w.now+10*time.Second, func() bool {
		return placeIn(owner.n.state, simTargets[d]).Class() != 0 && placeIn(other.n.state, simTargets[d]).Class() != 0 && owner.node.owners[d].Load().admitted.Load()
	}) {
		t.Fatalf("the twin stays where it was %s", w.fail)
	}
	var got []error
	for i, p := range []*proc{owner, other} {
		p.node.Call(&Envelope{ID: [16]byte{byte(i + 1)}, Target: Target{"twin", simTargets[d]}}, func(r Reply) { got = append(got, r.Err) })
	}
	w.run(w.now+300*time.Millisecond, nil)
	if len(got) > 0 {
		t.Errorf("answered before the routers know where the twin lives: %v", got)
	}
	for _, o := range watchers {
		o.soon(o.deliver)
	}
	w.run(w.now+time.Second, nil)
	if len(got) != 2 || got[0] != nil || got[1] != nil {
		t.Errorf("answers: %v %s", got, w.fail)
	}
}

// disagreeing answers the first envelope to each owner as one that has not seen where the target lives does.
type disagreeing struct {
	simTransport
	asked map[string]bool
}

func (d disagreeing) Send(node string, env *Envelope, done func(Reply)) {
	if d.asked[node] {
		d.simTransport.Send(node, env, done)
		return
	}
	d.asked[node] = true
	since := env.Since
	d.p.w.at(time.Millisecond, d.p, func() { done(Reply{Err: &NotOwnerError{Since: since}}) })
}

// Each owner to which a call comes has the time to see where its target lives, however long the call took at those before.
func TestEachOwnerMayBeBehind(t *testing.T) {
	w := calm(t, 6, 3)
	n, s := w.releasing(t)
	caller := w.nodes[0].proc
	asked := map[string]bool{}
	caller.node.o.Transport = disagreeing{simTransport{caller}, asked}
	for caller.node.targets[s] == caller.n.id || n.proc.node.phases[s] != phaseReleasing {
		s++
	}
	var got []error
	caller.node.Call(&Envelope{ID: [16]byte{1}, Target: Target{"twin", simTargets[s]}}, func(r Reply) { got = append(got, r.Err) })
	w.run(w.now+parkRecord+time.Second, nil)
	if len(got) > 0 || len(asked) != 1 {
		t.Fatalf("%d owners asked, answered: %v", len(asked), got)
	}
	w.unstick(n.proc)
	w.run(w.now+5*time.Second, nil)
	if len(asked) != 2 || len(got) != 1 || got[0] != nil {
		t.Errorf("%d owners asked, answers: %v %s", len(asked), got, w.fail)
	}
}

// startAs starts a node with a site and labels on a store.
func startAs(t *testing.T, s *tables, m Member) (*Node, *holder) {
	t.Helper()
	h := &holder{slots: map[Slot]Ownership{}}
	n, err := Start(t.Context(), Options{Self: m, Records: s, Handler: h, Renew: 2 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n, h
}

func classOf(t *testing.T, n *Node, text string) (Class, error) {
	t.Helper()
	s, err := ParseSelector(text)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return n.Class(ctx, s)
}

// callTo calls an actor and waits for the answer.
func callTo(t *testing.T, n *Node, id string) error {
	t.Helper()
	reply := make(chan Reply, 1)
	n.Call(&Envelope{Target: Target{"twin", id}}, func(r Reply) { reply <- r })
	select {
	case r := <-reply:
		return r.Err
	case <-time.After(30 * time.Second):
		t.Fatal("no answer")
		return nil
	}
}

func TestClassesHaveSlotsOfTheirOwn(t *testing.T) {
	s := newTables()
	n, h := startAs(t, s, Member{ID: "n1", Name: "one", Incarnation: 1, Site: "berlin"})
	berlin, err := classOf(t, n, "site=berlin")
	if err != nil || berlin != 1 {
		t.Fatalf("%d, %v", berlin, err)
	}
	if again, err := classOf(t, n, " site == berlin "); err != nil || again != berlin {
		t.Errorf("the same selector is class %d, %v", again, err)
	}
	await(t, "the class's slots", func() bool { return h.count() == SlotCount+ClassSlots })
	paris, err := classOf(t, n, "site=paris")
	if err != nil || paris != 2 {
		t.Fatalf("%d, %v", paris, err)
	}
	place := func(id string, c Class) {
		t.Helper()
		if err := s.commit(Txn{Writes: []TableRecord{record(TablePlace, id, EncodeClass(c))}}); err != nil {
			t.Fatal(err)
		}
	}
	place("default/here", berlin)
	place("default/far", paris)
	if at := n.SlotOf("default/here"); at.Class() != berlin || at != berlin.SlotOf("default/here") || at%ClassSlots != SlotOf("default/here")%ClassSlots {
		t.Errorf("slot %d", at)
	}
	if err := callTo(t, n, "default/here"); err != nil {
		t.Errorf("where it may live: %v", err)
	}
	err = callTo(t, n, "default/far")
	if !errors.Is(err, ErrSelector) || !errors.Is(err, ErrUnavailable) || !strings.HasSuffix(err.Error(), "unavailable: no node satisfies site=paris") {
		t.Errorf("where nobody may have it: %v", err)
	}
	if found := n.Check(t.Context()); len(found) != 1 || found[0] != (Complaint{"no node satisfies site=paris; twins unavailable: 1", true}) {
		t.Errorf("check: %v", found)
	}
	if unmet, err := n.UnmetActors(); err != nil || len(unmet) != 1 || unmet["site=paris"] != 1 {
		t.Errorf("unmet: %v, %v", unmet, err)
	}
	// It is somewhere once it may be.
	if err := s.commit(Txn{Writes: []TableRecord{record(TableShift, ShiftKey(paris.SlotOf("default/far"), "default/far"), EncodeClass(berlin))}}); err != nil {
		t.Fatal(err)
	}
	await(t, "the move", func() bool { return n.SlotOf("default/far").Class() == berlin })
	if err := callTo(t, n, "default/far"); err != nil {
		t.Errorf("after the move: %v", err)
	}
	if found := n.Check(t.Context()); found != nil {
		t.Errorf("check: %v", found)
	}
	for _, c := range n.Classes() {
		if c.Class == berlin && (c.Selector != "site=berlin" || len(c.Nodes) != 1) || c.Class == paris && len(c.Nodes) != 0 {
			t.Errorf("%+v", c)
		}
	}
}

// An actor that moves within its node is called all the time: each call is answered, and its old slot has a new since.
func TestMoveGivesTheOldSlotANewSince(t *testing.T) {
	s := newTables()
	n, _ := startAs(t, s, Member{ID: "n1", Name: "one", Incarnation: 1, Site: "berlin"})
	berlin, err := classOf(t, n, "site=berlin")
	if err != nil {
		t.Fatal(err)
	}
	home := SlotOf("default/a")
	before, _ := n.Owned(home)
	if err := s.commit(Txn{Writes: []TableRecord{record(TableShift, ShiftKey(home, "default/a"), EncodeClass(berlin))}}); err != nil {
		t.Fatal(err)
	}
	for n.SlotOf("default/a") == home {
		if err := callTo(t, n, "default/a"); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the old slot's record", func() bool { o, ok := n.Owned(home); return ok && o.Since > before.Since })
	if err := s.commit(Txn{Guards: []TableRecord{record(before.Table, before.Key, before.Value)}}); !errors.Is(err, ErrConflict) {
		t.Errorf("what was proposed before the move may still be committed: %v", err)
	}
}

// No selector is used before every member knows them; from then on a member that does not owns nothing.
func TestClassesWaitForEveryMember(t *testing.T) {
	s := newTables()
	n, _ := startAs(t, s, Member{ID: "n1", Name: "one", Incarnation: 1, Site: "berlin"})
	old := Member{ID: "n2", Name: "two", Incarnation: 1, Weight: 1, State: StateDead, Site: "berlin"}
	if err := s.commit(Txn{Writes: []TableRecord{record(TableMember, "n2", old.encode())}}); err != nil {
		t.Fatal(err)
	}
	await(t, "the other member", func() bool { return len(n.Members()) == 2 })
	if c, err := classOf(t, n, "site=berlin"); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "node two (n2) runs a program that knows no selectors") {
		t.Fatalf("class %d, %v", c, err)
	}
	if all, _ := s.Scan(tableClass); len(all) != 0 {
		t.Fatalf("recorded all the same: %v", all)
	}
	old.features = featureClasses
	if err := s.commit(Txn{Writes: []TableRecord{record(TableMember, "n2", old.encode())}}); err != nil {
		t.Fatal(err)
	}
	await(t, "the upgrade", func() bool { _, err := classOf(t, n, "site=berlin"); return err == nil })
	await(t, "the selector", func() bool { return len(n.Classes()) == 1 })
	for _, known := range []bool{true, false} {
		m := &memberView{Member: Member{ID: "n3", State: StateActive, Site: "berlin"}}
		if known {
			m.features = featureClasses
		}
		n.do(func() {
			n.members["n3"] = m
			n.ids = append(n.ids, "n3")
			for _, c := range []Class{0, 1} {
				got := false
				for _, x := range n.candidates(c) {
					got = got || x.ID == "n3"
				}
				if got != known {
					t.Errorf("class %d: a member that knows selectors: %v, is a candidate: %v", c, known, got)
				}
			}
			delete(n.members, "n3")
			n.ids = n.ids[:len(n.ids)-1]
		})
	}
}

// A member's record of a program without features reads as it did, and what this one adds is kept by that one.
func TestMemberFeaturesAreAnAddition(t *testing.T) {
	m := Member{ID: "n1", Name: "one", State: StateActive, Incarnation: 3, Labels: map[string]string{"a": "b"}}
	plain := m.encode()
	m.features = featureClasses
	with := m.encode()
	if string(with[:len(plain)]) != string(plain) || len(with) != len(plain)+1 {
		t.Errorf("%x, then %x", plain, with)
	}
	got, err := DecodeMember("n1", with)
	if err != nil || !got.knowsClasses() || string(got.encode()) != string(with) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := DecodeMember("n1", plain); err != nil || got.knowsClasses() || string(got.encode()) != string(plain) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestNumberOfSelectorsIsBounded(t *testing.T) {
	n, _ := startAs(t, newTables(), Member{ID: "n1", Name: "one", Incarnation: 1})
	for i := range MaxClasses {
		if c, err := classOf(t, n, fmt.Sprintf("rack=r%d", i)); err != nil || int(c) != i+1 {
			t.Fatalf("%d, %v", c, err)
		}
	}
	if _, err := classOf(t, n, "rack=more"); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "had 64 selectors") {
		t.Errorf("one more: %v", err)
	}
	if c, err := classOf(t, n, "rack=r7"); err != nil || c != 8 {
		t.Errorf("a known one: %d, %v", c, err)
	}
}

// Slots of a class spread over the members that satisfy it, and a join moves the newcomer's share. They are few, so that
// the spread is coarser than that of all slots.
func TestClassesSpread(t *testing.T) {
	worst, moved, want := 0.0, 0.0, 0.0
	for c := Class(1); c <= 32; c++ {
		for _, count := range []int{2, 3, 5} {
			all := members(count + 1)
			had := map[string]int{}
			for i := range Slot(ClassSlots) {
				was, is := Propose(c.first()+i, all[:count]), Propose(c.first()+i, all)
				had[was]++
				if was != is {
					moved++
					if is != all[count].ID {
						t.Fatalf("a slot moved from %s to %s, which is not new", was, is)
					}
				}
			}
			want += ClassSlots / float64(count+1)
			for _, got := range had {
				worst = max(worst, math.Abs(float64(got)*float64(count)/ClassSlots-1))
			}
		}
	}
	t.Logf("worst imbalance %.0f %%, moved share %.1f %% of what it should be", 100*worst, 100*moved/want)
	if worst > 0.45 || math.Abs(moved/want-1) > 0.05 {
		t.Errorf("imbalance %.2f, moved %.3f", worst, moved/want)
	}
}

func TestSlotsOfClassesAreFixed(t *testing.T) {
	for c, want := range map[Class]Slot{0: 11950, 1: 16384 + 11950%256, 2: 16640 + 11950%256, MaxClasses: 32512 + 11950%256} {
		if got := c.SlotOf("default/lamp1"); got != want || got.Class() != c {
			t.Errorf("class %d: slot %d of class %d, want %d", c, got, got.Class(), want)
		}
	}
	if _, err := parseSlotKey("8000"); err == nil {
		t.Error("a slot above the last is read")
	}
	for _, bad := range []string{"", "0001", "0001/", "00g1/x", "9000/x", "1/x"} {
		if s, id, err := parseShiftKey(bad); err == nil && (id == "" || s >= SlotSpace) {
			t.Errorf("%q is read as %d %q", bad, s, id)
		}
	}
}

func TestPlacesAreReadAnewWhenTheyChange(t *testing.T) {
	s := newTables()
	n, _ := startAs(t, s, Member{ID: "n1", Name: "one", Incarnation: 1, Site: "berlin"})
	berlin, err := classOf(t, n, "site=berlin")
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the class", n.classed.Load)
	const id = "default/lamp"
	for turn := range 4 {
		want, value := Class(0), []byte(nil)
		if turn%2 == 1 {
			want, value = berlin, EncodeClass(berlin)
		}
		if err := s.commit(Txn{Writes: []TableRecord{record(TablePlace, id, value)}, Quiet: true}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if at := n.SlotOf(id); at != want.SlotOf(id) {
				t.Errorf("turn %d: slot %d, want %d", turn, at, want.SlotOf(id))
			}
		}
	}
	reads := s.reads.Load()
	for range 100 {
		n.SlotOf(id)
	}
	if now := s.reads.Load(); now != reads {
		t.Errorf("%d reads of what did not change", now-reads)
	}
	for i := range maxPlaces + 10 {
		n.SlotOf(fmt.Sprint("default/", i))
	}
	if kept := len(n.places.Load().of); kept > maxPlaces {
		t.Errorf("%d places are kept", kept)
	}
}

func BenchmarkSlotOf(b *testing.B) {
	n := newNode(Options{Records: newTables()})
	n.classed.Store(true)
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = fmt.Sprint("default/lamp", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		n.SlotOf(ids[i%len(ids)])
	}
}
