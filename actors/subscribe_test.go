package actors_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/cluster"
)

// heard gives what a probe heard of others, one by one.
func (n *node) heard(id string) []string {
	n.t.Helper()
	p := n.state(id).Properties["heard"]
	if p == nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(p.Value.GetStringValue(), ";"), ";")
}

func (n *node) hears(id string, want ...string) {
	n.t.Helper()
	var got []string
	until(n.t, fmt.Sprintf("%s hears %q", id, want), func() bool { got = n.heard(id); return len(got) >= len(want) })
	if strings.Join(got, "|") != strings.Join(want, "|") {
		n.t.Fatalf("%s heard %q, want %q", id, got, want)
	}
}

func TestSubscriptions(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	for _, id := range []string{"a", "b", "c"} {
		n.twin(`{"id":"` + id + `","driver":"probe"}`)
	}
	n.must("a", "report", `{"level":1,"on":true}`)
	n.must("b", "follow", `{"twin":"a","property":"level"}`)
	n.hears("b", "a.level=1 good") // the first value
	n.must("a", "report", `{"level":2}`)
	n.must("a", "report", `{"on":false}`) // not subscribed to
	n.must("a", "report", `{"level":2}`)  // no change
	n.must("a", "report", `{"level":3}`)
	n.hears("b", "a.level=1 good", "a.level=2 good", "a.level=3 good")
	n.must("b", "follow", `{"twin":"a","property":"level"}`) // again: nothing new
	n.must("b", "follow", `{"twin":"a","property":"on"}`)
	n.must("c", "follow", `{"twin":"a","property":"level"}`)
	n.hears("b", "a.level=1 good", "a.level=2 good", "a.level=3 good", "a.on=false good")
	n.hears("c", "a.level=3 good")
	if s := n.state("b").Subscriptions; len(s) != 2 || s[0].Twin != "a" || s[0].Property != "level" {
		t.Errorf("subscriptions shown: %v", s)
	}
	n.must("b", "follow", `{"twin":"a","property":"level","cancel":true}`)
	until(t, "the subscription is gone", func() bool { return n.followers("a") == 2 })
	n.must("a", "report", `{"level":4}`)
	n.hears("c", "a.level=3 good", "a.level=4 good")
	if got := n.heard("b"); len(got) != 4 {
		t.Errorf("after it was ended b heard %q", got)
	}
	if _, err := n.invoke("b", "follow", `{"twin":"other/x","property":"level"}`); err == nil || !strings.Contains(err.Error(), "another project") {
		t.Errorf("a twin of another project: %v", err)
	}
	// A subscriber that is deleted leaves nothing.
	if err := n.reg.DeleteTwin(ctx(t), "c", 0); err != nil {
		t.Fatal(err)
	}
	until(t, "the subscriptions of c are gone", func() bool { return n.followers("a") == 1 })
}

// followers counts the records of subscriptions to a twin by its name.
func (n *node) followers(name string) int {
	n.t.Helper()
	count := 0
	for rec, err := range n.store.Scan("follow", "", "") {
		if err != nil {
			n.t.Fatal(err)
		}
		if strings.Split(rec.Key, "\x00")[1] == name {
			count++
		}
	}
	return count
}

// A subscription to a name in a system goes over to the twin that has the name, and says so where nobody has it.
func TestSubscriptionsFollowASystem(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	for _, id := range []string{"a", "b", "r"} {
		n.twin(`{"id":"` + id + `","driver":"probe"}`)
	}
	n.must("a", "report", `{"level":1}`)
	n.must("b", "report", `{"level":2}`)
	n.must("r", "follow", `{"system":"room","twin":"Display_1","property":"level"}`) // before there is such a system
	n.system("room", "Display_1=a")
	want := []string{"default/room:Display_1.level=1 good"}
	n.hears("r", want...)
	n.system("room", "Display_1=b")
	want = append(want, "default/room:Display_1.level=2 good")
	n.hears("r", want...)
	n.must("a", "report", `{"level":5}`) // it is not Display_1 any more
	n.must("b", "report", `{"level":6}`)
	want = append(want, "default/room:Display_1.level=6 good")
	n.hears("r", want...)
	n.system("room", "Other_1=b")
	want = append(want, "default/room:Display_1.level=null bad")
	n.hears("r", want...)
	n.system("room", "Display_1=b")
	want = append(want, "default/room:Display_1.level=6 good")
	n.hears("r", want...)
	n.must("b", "report", `{"level":7}`)
	want = append(want, "default/room:Display_1.level=7 good")
	n.hears("r", want...)
	// A twin that is deleted: its subscribers are told.
	n.must("r", "follow", `{"twin":"a","property":"level"}`)
	want = append(want, "a.level=5 good")
	n.hears("r", want...)
	if err := n.reg.DeleteTwin(ctx(t), "a", 0); err != nil {
		t.Fatal(err)
	}
	n.hears("r", append(want, "a.level=null bad")...)
}

// stop stops a twin, or has it go on.
func (n *node) stop(id string, stopped bool) {
	n.t.Helper()
	tw, err := n.reg.GetTwin(id)
	if err != nil {
		n.t.Fatal(err)
	}
	tw.Stopped = stopped
	if _, err := n.reg.UpdateTwin(ctx(n.t), tw); err != nil {
		n.t.Fatal(err)
	}
	until(n.t, id+" has stopped or begun", func() bool { _, err := n.invoke(id, "echo", "1"); return (err != nil) == stopped })
}

// The node of a twin dies that had something to tell its subscriber. Nobody calls the twin, and its device says nothing more:
// its next owner tells it.
func TestSubscriptionsSurviveACrash(t *testing.T) {
	a, b := pairLeased(t, 0)
	a.driver("probe", "1.0.0", "")
	a.driver("bus", "1.0.0", mqttTransport)
	var bus, reader string
	for i := 0; bus == "" || reader == ""; i++ {
		id := fmt.Sprintf("m%d", i)
		switch owner := a.owner("default/" + id); {
		case owner == "n2" && bus == "":
			bus = id
		case owner == "n1" && reader == "":
			reader = id
		}
	}
	a.twin(fmt.Sprintf(`{"id":%q,"driver":"bus","settings":{"topic":%q}}`, bus, bus))
	a.twin(fmt.Sprintf(`{"id":%q,"driver":"probe"}`, reader))
	a.deliver("dev/"+bus+"/x", `{"level":1}`, 1)
	a.must(reader, "follow", fmt.Sprintf(`{"twin":%q,"property":"level"}`, bus))
	first := bus + ".level=1 good"
	a.hears(reader, first)
	a.stop(reader, true)
	a.deliver("dev/"+bus+"/x", `{"level":2}`, 1) // committed, and nobody could be told
	b.close()
	a.stop(reader, false)
	a.hears(reader, first, bus+".level=2 stale")
}

// What a subscriber did not hear because it was stopped, or its node was down, it hears when it is there again; what it heard
// it does not hear again after an orderly restart.
func TestSubscriptionsSurviveRestarts(t *testing.T) {
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	n.twin(`{"id":"b","driver":"probe"}`)
	n.must("a", "report", `{"level":1}`)
	n.must("b", "follow", `{"twin":"a","property":"level"}`)
	n.hears("b", "a.level=1 good")
	n.stop("b", true)
	n.must("a", "report", `{"level":2}`)
	n.must("a", "report", `{"level":3}`)
	n.stop("b", false)
	n.hears("b", "a.level=1 good", "a.level=2 good", "a.level=3 good")
	n.twin(`{"id":"c","driver":"probe"}`)
	n.must("c", "report", `{"level":1}`)
	n.must("b", "follow", `{"twin":"c","property":"level"}`)
	n.hears("b", "a.level=1 good", "a.level=2 good", "a.level=3 good", "c.level=1 good")
	n.stop("b", true)
	if err := n.reg.DeleteTwin(ctx(t), "c", 0); err != nil {
		t.Fatal(err)
	}
	n.stop("b", false)
	n.hears("b", "a.level=1 good", "a.level=2 good", "a.level=3 good", "c.level=1 good", "c.level=null bad")
	if err := n.engine.Drain(ctx(t)); err != nil {
		t.Fatal(err)
	}
	n.close()
	n = open(t, fs, 2)
	n.must("a", "report", `{"level":4}`)
	n.hears("b", "a.level=1 good", "a.level=2 good", "a.level=3 good", "c.level=1 good", "c.level=null bad", "a.level=4 good")
}

// That a twin is gone is the last that its subscribers hear of it.
func TestSubscribersAndLastWords(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	for _, id := range []string{"a", "b", "c"} {
		n.twin(`{"id":"` + id + `","driver":"probe"}`)
	}
	n.must("b", "follow", `{"twin":"a","property":"level"}`)
	n.must("b", "follow", `{"twin":"c","property":"level"}`)
	n.must("a", "report", `{"level":1}`)
	n.hears("b", "a.level=1 good")
	if err := n.reg.DeleteTwin(ctx(t), "a", 0); err != nil {
		t.Fatal(err)
	}
	n.hears("b", "a.level=1 good", "a.level=null bad")
	if err := n.engine.SayTo("default/b", "default/a", "a", "level", "2"); !errors.Is(err, cluster.ErrOverloaded) {
		t.Errorf("%v", err)
	}
	n.must("c", "report", `{"level":1}`)
	n.hears("b", "a.level=1 good", "a.level=null bad", "c.level=1 good")
}

// Twins that follow each other and answer each change with one do so at a bounded rate, and nobody else notices.
func TestFollowersInACircle(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	for _, id := range []string{"a", "b", "c"} {
		n.twin(`{"id":"` + id + `","driver":"probe"}`)
	}
	n.must("a", "report", `{"heard":0}`)
	n.must("a", "follow", `{"twin":"b","property":"heard"}`)
	n.must("b", "follow", `{"twin":"a","property":"heard"}`) // what they hear changes what they report
	until(t, "they go in a circle", func() bool { return len(n.heard("a")) > 3 })
	if got := n.must("c", "echo", "1"); got != "1" {
		t.Errorf("a neighbour answers %s", got)
	}
	for _, id := range []string{"a", "b"} {
		if err := n.reg.DeleteTwin(ctx(t), id, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// Publisher and subscriber move, under changes: the last value arrives, and the order holds.
func TestSubscriptionsMove(t *testing.T) {
	a, b := pair(t)
	a.driver("probe", "1.0.0", "")
	ids := []string{"p", "q", "r", "s"}
	for _, id := range ids {
		a.twin(`{"id":"` + id + `","driver":"probe"}`)
	}
	until(t, "b has the twins", func() bool { _, err := b.reg.GetTwin("s"); return err == nil })
	for i, id := range ids {
		a.must(id, "follow", `{"twin":"`+ids[(i+1)%len(ids)]+`","property":"level"}`)
	}
	last := 0
	change := func(times int) {
		for range times {
			last++
			for _, id := range ids {
				a.must(id, "report", fmt.Sprintf(`{"level":%d}`, last))
			}
		}
	}
	change(5)
	for _, n := range []string{"n2", "n1"} {
		moved := make(chan struct{})
		go func() { defer close(moved); a.drain(n) }()
		change(10)
		<-moved
		a.undrain(n)
		change(5)
	}
	for i, id := range ids {
		what := fmt.Sprintf("%s.level=%d good", ids[(i+1)%len(ids)], last)
		until(t, id+" hears the last value", func() bool {
			got := b.heard(id)
			return len(got) > 0 && got[len(got)-1] == what
		})
		was := 0
		for _, x := range b.heard(id) {
			var level int
			if _, err := fmt.Sscanf(x[1:], ".level=%d", &level); err != nil || level < was {
				t.Errorf("%s heard %q after %d", id, x, was)
			}
			was = level
		}
	}
}

// A device that goes and comes back shows in the quality of what its subscribers hear.
func TestSubscribersHearOfStaleValues(t *testing.T) {
	n := newNode(t)
	n.driver("line", "1.0.0", tcpTransport)
	n.driver("probe", "1.0.0", "")
	d := newDevice(t, nil)
	n.twin(`{"id":"d","driver":"line","uri":"` + d.uri() + `"}`)
	n.twin(`{"id":"a","driver":"probe"}`)
	n.wait("d", "ups", "1")
	n.must("a", "follow", `{"twin":"d","property":"level"}`)
	d.say(`{"level":1}`)
	n.hears("a", "d.level=1 good")
	d.close()
	n.hears("a", "d.level=1 good", "d.level=1 stale")
}

// A subscriber that cannot keep up is told the newest value, and how much it missed.
func TestSlowSubscribersAreTold(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.driver("line", "1.0.0", tcpTransport)
	d := newDevice(t, nil)
	n.twin(`{"id":"a","driver":"probe"}`)
	n.twin(`{"id":"b","driver":"line","uri":"` + d.uri() + `"}`)
	n.wait("b", "ups", "1")
	n.must("b", "follow", `{"twin":"a","property":"level"}`)
	until(t, "it is subscribed", func() bool { return n.followers("a") == 1 })
	// A call that waits for the device keeps b's driver busy.
	busy := make(chan error, 1)
	go func() { _, err := n.invoke("b", "ask", `{"text":"wait","timeout_ms":60000}`); busy <- err }()
	until(t, "the driver waits", func() bool { return d.heard("wait") == 1 })
	const changes = 300
	for i := range changes {
		n.must("a", "report", fmt.Sprintf(`{"level":%d}`, i%100+1))
	}
	d.say("go on")
	if err := <-busy; err != nil {
		t.Fatal(err)
	}
	var got []string
	until(t, "the newest value", func() bool {
		got = n.heard("b")
		return len(got) > 0 && strings.HasPrefix(got[len(got)-1], "a.level=100 ")
	})
	missed := 0
	for _, x := range got {
		var m int
		if _, after, ok := strings.Cut(x, "missed "); ok {
			fmt.Sscan(after, &m)
		}
		missed += m
	}
	if len(got)+missed != changes || missed == 0 {
		t.Errorf("%d changes, %d were told and %d missed", changes, len(got), missed)
	}
	if s := n.engine.Stats(); s.Dropped["subscriber_slow"] != uint64(missed) {
		t.Errorf("counted as dropped: %d, missed %d", s.Dropped["subscriber_slow"], missed)
	}
}

// Each of many followers hears every change in order, also those who come meanwhile, and those who leave hear no more.
func TestManyFollowers(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	const followers = 40
	id := func(i int) string { return fmt.Sprintf("f%02d", i) }
	for i := range followers {
		n.twin(fmt.Sprintf(`{"id":%q,"driver":"probe"}`, id(i)))
	}
	n.must("a", "report", `{"level":0}`)
	for i := range followers {
		n.must(id(i), "follow", `{"twin":"a","property":"level"}`)
		if i%10 == 5 {
			n.must("a", "report", fmt.Sprintf(`{"level":%d}`, i))
		}
	}
	for i := 0; i < followers; i += 2 {
		n.must(id(i), "follow", `{"twin":"a","property":"level","cancel":true}`)
	}
	until(t, "half of them are left", func() bool { return n.followers("a") == followers/2 })
	n.must("a", "report", `{"level":99}`)
	for i := range followers {
		level := func(x string) (level int) {
			if _, err := fmt.Sscanf(x, "a.level=%d good", &level); err != nil {
				t.Errorf("%s heard %q", id(i), x)
			}
			return level
		}
		if i%2 == 1 {
			until(t, id(i)+" hears the last change", func() bool {
				got := n.heard(id(i))
				return len(got) > 0 && level(got[len(got)-1]) == 99
			})
		}
		was := -1
		for _, x := range n.heard(id(i)) {
			if now := level(x); now <= was || now == 99 && i%2 == 0 {
				t.Errorf("%s heard %q after %d", id(i), x, was)
			} else {
				was = now
			}
		}
	}
}
