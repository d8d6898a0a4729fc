package actors_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const floorModel = `"mean":{"type":"number","readOnly":true,"pollux:derived":"avg(zone.twins(\"sensor\").t)"},"target":{"type":"number","pollux:virtual":true}`

// floors makes two models, a building of two floors, and a twin for one of them.
func floors(n *node) {
	n.model("sensor", thing("Sensor", `"t":{"type":"number","readOnly":true}`))
	n.model("floor", thing("Floor", floorModel))
	for _, line := range []string{`{"zone":{"id":"hq"}}`, `{"zone":{"id":"f1","parent":"hq"}}`, `{"zone":{"id":"room","parent":"f1"}}`, `{"zone":{"id":"f2","parent":"hq"}}`,
		`{"twin":{"id":"floor","model":"floor","zone":"f1"}}`} {
		n.applied(line)
	}
}

// applied applies records, which must be right.
func (n *node) applied(lines ...string) {
	n.t.Helper()
	for _, line := range n.apply(&pb.ApplyRequest{Records: configs(n.t, lines...)}) {
		if strings.HasPrefix(line, "refused") || strings.HasPrefix(line, "left") {
			n.t.Fatal(line)
		}
	}
}

// derives waits for a property's value and quality, and gives how it is computed.
func (n *node) derives(id, property, want string) *pb.DerivedState {
	n.t.Helper()
	var d *pb.DerivedState
	got := ""
	until(n.t, id+"."+property+" is "+want, func() bool {
		st, err := n.client.State(ctx(n.t), id, false)
		if err != nil {
			n.t.Logf("state of %s: %v", id, err) // it moves
			return false
		}
		d, got = st.Derived[property], "nothing"
		if p := st.Properties[property]; p != nil {
			got = text(p.Value) + " " + strings.ToLower(strings.TrimPrefix(p.Quality.String(), "QUALITY_"))
		}
		return got == want
	})
	return d
}

// looking is a driver whose commands look at the state when they begin and, once they may, at their end.
type looking struct {
	drivers.Runner
	seen chan string
	gate chan struct{}
}

func (r looking) Handle(ctx context.Context, c drivers.Call, h drivers.Host) (drivers.Effects, error) {
	if c.Event == drivers.EventCommand {
		r.seen <- string(c.State())
		<-r.gate
		r.seen <- string(c.State())
	}
	return r.Runner.Handle(ctx, c, h)
}

// What is computed changes while the driver is at work: a call sees the state as it was when it began, all the time.
func TestDerivedWhileACallRuns(t *testing.T) {
	seen, gate := make(chan string, 2), make(chan struct{})
	n := newNode(t, func(o *actors.Options) {
		load := o.Drivers
		o.Drivers = func(ctx context.Context, digest string) (drivers.Runner, error) {
			r, err := load(ctx, digest)
			return looking{r, seen, gate}, err
		}
	})
	n.driver("probe", "1.0.0", "")
	n.model("sensor", thing("Sensor", `"t":{"type":"number","readOnly":true}`))
	n.applied(`{"twin":{"id":"s","model":"sensor"}}`, `{"twin":{"id":"a","driver":"probe","derived":{"twice":"sum(twins(\"s\").t) * 2.0"}}}`)
	n.absorb("s", `{"t":20}`, 0)
	n.derives("a", "twice", "40 good")
	ended := make(chan error, 1)
	go func() { _, err := n.invoke("a", "count", ""); ended <- err }()
	began := <-seen
	if !strings.Contains(began, `"twice":40`) {
		t.Errorf("at first the driver sees %s", began)
	}
	n.absorb("s", `{"t":21}`, 0)
	n.derives("a", "twice", "42 good")
	close(gate)
	if now := <-seen; now != began {
		t.Errorf("the driver saw %s, then %s", began, now)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	n.wait("a", "twice", "42")
	if _, err := n.invoke("a", "count", ""); err != nil {
		t.Error(err)
	}
	if next := <-seen; !strings.Contains(next, `"twice":42`) {
		t.Errorf("the next call sees %s", next)
	}
}

func TestDerivedFromAZone(t *testing.T) {
	n := newNode(t)
	floors(n)
	n.applied(`{"twin":{"id":"s1","model":"sensor","zone":"f1"}}`, `{"twin":{"id":"s2","model":"sensor","zone":"room"}}`,
		`{"twin":{"id":"s3","model":"sensor","zone":"f2"}}`)
	n.absorb("s1", `{"t":20}`, 0)
	n.absorb("s3", `{"t":99}`, 0) // on another floor
	n.derives("floor", "mean", "20 good")
	n.absorb("s2", `{"t":22}`, 0)
	d := n.derives("floor", "mean", "21 good")
	if d.Sources != 2 || d.WithoutValue != 0 || d.Error != "" || !strings.Contains(d.Expression, "avg(") {
		t.Errorf("%v", d)
	}
	// Nobody asks for what is computed.
	if _, err := n.client.SetDesired(ctx(t), &pb.SetDesiredRequest{Id: "floor", Property: "mean", Value: value(t, "1")}, "me"); err == nil {
		t.Error("a computed property can be set")
	}
	// Who comes, goes and moves changes the set.
	n.applied(`{"twin":{"id":"s3","model":"sensor","zone":"room"}}`)
	n.derives("floor", "mean", "47 good")
	n.applied(`{"zone":{"id":"room","parent":"f2"}}`)
	n.derives("floor", "mean", "20 good")
	n.applied(`{"zone":{"id":"room","parent":"f1"}}`)
	n.derives("floor", "mean", "47 good")
	if err := n.reg.DeleteTwin(ctx(t), "s3", 0); err != nil {
		t.Fatal(err)
	}
	n.derives("floor", "mean", "21 good")
	if err := n.reg.DeleteTwin(ctx(t), "s1", 0); err != nil {
		t.Fatal(err)
	}
	n.derives("floor", "mean", "22 good")
	if err := n.reg.DeleteTwin(ctx(t), "s2", 0); err != nil {
		t.Fatal(err)
	}
	n.derives("floor", "mean", "22 stale") // as it was last

	// Another formula goes into force with its model.
	n.applied(`{"twin":{"id":"s1","model":"sensor","zone":"f1"}}`)
	n.absorb("s1", `{"t":10}`, 0)
	n.derives("floor", "mean", "10 good")
	m, err := n.reg.GetModel("floor")
	if err != nil {
		t.Fatal(err)
	}
	m.ThingJson = strings.ReplaceAll(m.ThingJson, `avg(zone.twins(\"sensor\").t)`, `twin.properties.target - avg(zone.twins(\"sensor\").t)`)
	if _, err := n.reg.UpdateModel(ctx(t), m); err != nil {
		t.Fatal(err)
	}
	n.derives("floor", "mean", "10 stale") // there is no target yet
	if _, err := n.client.SetDesired(ctx(t), &pb.SetDesiredRequest{Id: "floor", Property: "target", Value: value(t, "21")}, "me"); err != nil {
		t.Fatal(err)
	}
	n.derives("floor", "mean", "11 good")
}

func TestDerivedFromRelationsAndSystems(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.model("sum", thing("Sum", ""))
	for _, id := range []string{"a", "b", "c"} {
		n.twin(`{"id":"` + id + `","driver":"probe"}`)
	}
	n.applied(`{"twin":{"id":"total","model":"sum","derived":{"inflow":"sum(related(\"-feeds\").level)","twice":"twin.properties.inflow * 2","n":"count(system(\"all\").twins(\"Part\"))"}}}`)
	n.must("a", "report", `{"level":1}`)
	n.must("b", "report", `{"level":2}`)
	n.derives("total", "inflow", "0 good")
	n.relate("a", "feeds", "total")
	n.derives("total", "twice", "2 good")
	n.relate("b", "feeds", "total")
	n.relate("c", "heats", "total")
	n.derives("total", "twice", "6 good")
	n.must("b", "report", `{"level":5}`)
	n.derives("total", "twice", "12 good")
	if err := n.reg.DeleteRelation(ctx(t), "a/feeds/total"); err != nil {
		t.Fatal(err)
	}
	n.derives("total", "inflow", "5 good")
	n.derives("total", "n", "0 good")
	n.system("all", "Part_1=a", "Part_2=b", "Other_1=c")
	n.derives("total", "n", "2 good")

	for text, want := range map[string]string{
		`avg(zone.twins(\"x\"))`: "want SET.PROPERTY",
		`twin.propertis.inflow`:  "did you mean",
		`twin.properties.x + 1`:  "it would depend on itself: bad.x ← bad.x",
		`sum(twins(\"loop\").y)`: "",
	} {
		line := n.apply(&pb.ApplyRequest{Records: configs(t, `{"twin":{"id":"bad","model":"sum","derived":{"x":"`+text+`"}}}`)})[0]
		if want != "" && (!strings.Contains(line, "refused") || !strings.Contains(line, want)) || want == "" && strings.Contains(line, "refused") {
			t.Errorf("%s: %s, want %q", text, line, want)
		}
	}
}

// A circle over several twins is refused where a twin would close it, and stopped and shown where a relation does.
func TestDerivedInACircle(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"p","driver":"probe"}`)
	n.model("sum", thing("Sum", ""))
	n.applied(`{"twin":{"id":"a","model":"sum","derived":{"x":"sum(twins(\"b\").x) + sum(twins(\"p\").level)"}}}`)
	n.must("p", "report", `{"level":1}`)
	n.derives("a", "x", "1 good")
	n.applied(`{"twin":{"id":"b","model":"sum","derived":{"x":"sum(related(\"adds\").x)"}}}`, `{"twin":{"id":"c","model":"sum"}}`)
	_, err := n.reg.CreateTwin(ctx(t), &pb.Twin{Id: "d", Model: "sum", Derived: map[string]string{"x": `sum(twins("d", "a").y) + max(twins("e").x)`}})
	if err != nil {
		t.Error(err)
	}
	until(t, "what d is computed of is known", func() bool { return n.state("d").Derived["x"] != nil })
	_, err = n.reg.CreateTwin(ctx(t), &pb.Twin{Id: "e", Model: "sum", Derived: map[string]string{"x": `max(twins("d").x)`}})
	if !errors.Is(err, actors.ErrInvalid) || !strings.Contains(err.Error(), "e.x ← d.x ← e.x") {
		t.Errorf("a twin that closes a circle: %v", err)
	}
	n.derives("b", "x", "0 good")
	n.relate("b", "adds", "a")
	for _, id := range []string{"a", "b"} {
		until(t, id+" is stopped", func() bool { return strings.Contains(n.state(id).Derived["x"].GetError(), "depends on itself") })
		n.derives(id, "x", map[string]string{"a": "1 bad", "b": n.valueOf("b", "x") + " bad"}[id])
	}
	if err := n.reg.DeleteRelation(ctx(t), "b/adds/a"); err != nil {
		t.Fatal(err)
	}
	n.must("p", "report", `{"level":3}`)
	n.derives("b", "x", "0 good")
	n.derives("a", "x", "3 good")
}

// All that is on a circle is stopped, whatever twins are called and however many circles go through one of them; and each goes on when its own is opened.
func TestDerivedOnSeveralCircles(t *testing.T) {
	n := newNode(t)
	n.model("sum", thing("Sum", ""))
	n.applied(`{"twin":{"id":"hub.1","model":"sum","derived":{"x":"sum(related(\"adds\").x)"}}}`)
	for _, id := range []string{"a.1", "b.1", "c.1"} {
		n.applied(`{"twin":{"id":"` + id + `","model":"sum","derived":{"x":"1.0 + sum(twins(\"hub.1\").x)"}}}`)
	}
	for _, id := range []string{"a.1", "b.1", "c.1"} {
		n.derives(id, "x", "1 good")
		n.relate("hub.1", "adds", id)
	}
	stopped := func(ids ...string) {
		t.Helper()
		for _, id := range ids {
			until(t, id+" is stopped", func() bool {
				return strings.Contains(n.state(id).Derived["x"].GetError(), "depends on itself: "+id+".x ← ")
			})
		}
	}
	stopped("hub.1", "a.1", "b.1", "c.1")
	if err := n.reg.DeleteRelation(ctx(t), "hub.1/adds/b.1"); err != nil {
		t.Fatal(err)
	}
	until(t, "b.1 goes on", func() bool { return n.state("b.1").Derived["x"].GetError() == "" })
	n.derives("b.1", "x", "1 good") // what is stopped does not count
	stopped("hub.1", "a.1", "c.1")
}

// A circle that is opened before all on it are stopped leaves none of them so.
func TestDerivedCircleThatIsOpenedAtOnce(t *testing.T) {
	n := newNode(t)
	n.model("sum", thing("Sum", ""))
	n.applied(`{"twin":{"id":"a","model":"sum","derived":{"x":"sum(system(\"all\").twins().x)"}}}`, `{"twin":{"id":"b","model":"sum","derived":{"x":"sum(related(\"adds\").x)"}}}`)
	stopped := func(id string) bool { return n.state(id).Derived["x"].GetError() != "" }
	for range 8 { // which of them is stopped first is chance
		n.system("all", "Part_1=b")
		until(t, "a is computed of b", func() bool { return n.state("a").Derived["x"].GetSources() == 1 })
		n.relate("b", "adds", "a")
		until(t, "one is stopped", func() bool { return stopped("a") || stopped("b") })
		n.system("all")
		until(t, "none is stopped", func() bool { return !stopped("a") && !stopped("b") })
		if err := n.reg.DeleteRelation(ctx(t), "b/adds/a"); err != nil {
			t.Fatal(err)
		}
		until(t, "b is computed of nobody", func() bool { return n.state("b").Derived["x"].GetSources() == 0 })
	}
}

// What a formula reads of its own twin besides properties counts too: what was asked for, and how the twin does.
func TestDerivedFromWhatIsAskedFor(t *testing.T) {
	n := newNode(t)
	n.model("room", thing("Room", `"t":{"type":"number"}`))
	n.applied(`{"twin":{"id":"r","model":"room","derived":{"off":"twin.desired.t - twin.properties.t","how":"twin.fault == \"\" ? twin.status : twin.fault"}}}`)
	n.absorb("r", `{"t":20}`, 0)
	for to, want := range map[string]string{"21": "1 good", "25": "5 good"} {
		if _, err := n.client.SetDesired(ctx(t), &pb.SetDesiredRequest{Id: "r", Property: "t", Value: value(t, to)}, "me"); err != nil {
			t.Fatal(err)
		}
		n.derives("r", "off", want)
	}
	n.derives("r", "how", `"none" good`)
	n.engine.Blame("default/r", "it is broken")
	n.derives("r", "how", `"it is broken" good`)
}

// mishears has a twin take a number for the t of another, until what it computes of that is the number: it may be told the right one meanwhile.
func (n *node) mishears(id, property, source string, x float64) {
	n.t.Helper()
	until(n.t, fmt.Sprintf("%s.%s is %v", id, property, x), func() bool {
		n.engine.Mishear("default/"+id, "default/"+source, "t", x)
		return n.valueOf(id, property) == fmt.Sprint(x)
	})
}

// A twin that was to tell its value again is asked again where the set changes before it has.
func TestDerivedAsksAgainWhereTheSetChanges(t *testing.T) {
	n := newNode(t)
	floors(n)
	n.applied(`{"twin":{"id":"s1","model":"sensor","zone":"f1"}}`)
	n.absorb("s1", `{"t":20}`, 0)
	n.derives("floor", "mean", "20 good")
	n.mishears("floor", "mean", "s1", 99)
	n.applied(`{"twin":{"id":"s2","model":"sensor","zone":"f1"}}`)
	n.derives("floor", "mean", "20 good")
}

// A value of a formula that is no more is no good one any more, until somebody says it.
func TestDerivedNoMore(t *testing.T) {
	n := newNode(t)
	n.model("plain", thing("Plain", ""))
	n.model("sensor", thing("Sensor", `"y":{"type":"number"}`))
	n.applied(`{"twin":{"id":"a","model":"plain","derived":{"x":"1 + 1","y":"2 + 2"}}}`)
	n.derives("a", "x", "2 good")
	n.derives("a", "y", "4 good")
	n.applied(`{"twin":{"id":"a","model":"sensor","derived":{"x":"1 + 2"}}}`)
	n.derives("a", "x", "3 good")
	n.derives("a", "y", "4 stale")
	n.absorb("a", `{"y":5}`, 0)
	n.derives("a", "y", "5 good")
	n.applied(`{"twin":{"id":"a","model":"sensor"}}`)
	n.derives("a", "x", "3 stale")
	n.derives("a", "y", "5 good")
}

// Who is named, or is in a system, and is no twin is not counted, until there is such a twin.
func TestDerivedCountsWhoIsThere(t *testing.T) {
	n := newNode(t)
	n.model("sum", thing("Sum", ""))
	n.applied(`{"twin":{"id":"a","model":"sum"}}`, `{"twin":{"id":"total","model":"sum","derived":{"n":"count(system(\"all\").twins())","m":"count(twins(\"a\", \"b\"))"}}}`)
	n.system("all", "Part_1=a", "Part_2=total")
	n.derives("total", "n", "1 good")
	n.derives("total", "m", "1 good")
	n.applied(`{"twin":{"id":"b","model":"sum"}}`)
	n.derives("total", "m", "2 good")
	if err := n.reg.DeleteTwin(ctx(t), "a", 0); err != nil {
		t.Fatal(err)
	}
	n.derives("total", "n", "0 good")
	n.derives("total", "m", "1 good")
	n.applied(`{"twin":{"id":"a","model":"sum"}}`)
	n.derives("total", "n", "1 good")
	n.derives("total", "m", "2 good")
}

// What a twin said that is gone counts no more, though it may be in the store yet.
func TestDerivedOfATwinThatIsGone(t *testing.T) {
	n := newNode(t)
	floors(n)
	n.applied(`{"twin":{"id":"total","model":"floor","derived":{"sum":"sum(twins(\"s1\").t)"}}}`, `{"twin":{"id":"s1","model":"sensor","zone":"f1"}}`)
	n.absorb("s1", `{"t":20}`, 0)
	n.derives("total", "sum", "20 good")
	if err := n.reg.DeleteTwin(ctx(t), "s1", 0); err != nil {
		t.Fatal(err)
	}
	n.derives("total", "sum", "0 good")
	n.mishears("total", "sum", "s1", 99) // as where a new life finds its last words
	n.engine.AskAgain("default/total")
	n.derives("total", "sum", "0 good")
}

// What a twin said just before its deletion, and is heard after that, does not count.
func TestDerivedOfLastWords(t *testing.T) {
	n := newNode(t)
	floors(n)
	n.applied(`{"twin":{"id":"total","model":"floor","derived":{"sum":"sum(twins(\"s1\", \"s2\").t)"}}}`, `{"twin":{"id":"s1","model":"sensor","zone":"f1"}}`,
		`{"twin":{"id":"s2","model":"sensor","zone":"f1"}}`)
	n.absorb("s1", `{"t":20}`, 0)
	n.derives("total", "sum", "20 good")
	if err := n.engine.SayTo("default/total", "default/s1", "", "t", "20"); err != nil {
		t.Fatal(err)
	}
	if err := n.reg.DeleteTwin(ctx(t), "s1", 0); err != nil {
		t.Fatal(err)
	}
	n.derives("total", "sum", "0 good")
	if err := n.engine.SayTo("default/total", "default/s1", "", "t", "22"); !errors.Is(err, cluster.ErrOverloaded) {
		t.Errorf("%v", err)
	}
	n.absorb("s2", `{"t":5}`, 0)
	n.derives("total", "sum", "5 good")
}

func (n *node) valueOf(id, property string) string {
	return text(n.state(id).Properties[property].Value)
}

// Of a thousand twins, written in one go, the mean is that of all of them; and after a crash that took what was written behind, it is
// that of what was committed.
func TestDerivedOfAThousandSurvivesACrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	n := open(t, fs, 1)
	floors(n)
	const many = 1000
	for at := 0; at < many; at += 100 {
		var lines []string
		for i := at; i < at+100; i++ {
			lines = append(lines, fmt.Sprintf(`{"twin":{"id":"s%d","model":"sensor","zone":"room"}}`, i))
		}
		n.applied(lines...)
	}
	for i := range many {
		n.absorb(fmt.Sprintf("s%d", i), fmt.Sprintf(`{"t":%d}`, i), 0)
	}
	d := n.derives("floor", "mean", "499.5 good")
	if d.Sources != many || d.WithoutValue != 0 || d.Evaluations > many {
		t.Errorf("%v", d)
	}
	n.absorb("s0", `{"t":1000}`, 0)
	n.derives("floor", "mean", "500.5 good")
	left := fs.CrashClone(vfs.CrashCloneCfg{})
	n.close()
	n = open(t, left, 2)
	n.derives("floor", "mean", "500.5 good")
	n.absorb("s1", `{"t":1001}`, 0)
	n.derives("floor", "mean", "501.5 good")
}

// Sources and what is computed live on two nodes, one of which dies.
func TestDerivedAcrossNodes(t *testing.T) {
	a, b := pairLeased(t, 0)
	floors(a)
	var lines []string
	for i := range 40 {
		lines = append(lines, fmt.Sprintf(`{"twin":{"id":"s%d","model":"sensor","zone":"room"}}`, i))
	}
	a.applied(lines...)
	a.applied(`{"twin":{"id":"floor-b","model":"floor","zone":"f1"}}`, `{"twin":{"id":"floor-c","model":"floor","zone":"f1"}}`)
	until(t, "b has the twins", func() bool { _, err := b.reg.GetTwin("floor-c"); return err == nil })
	sum := 0.0
	change := func(n *node, i, to int) {
		t.Helper()
		id := fmt.Sprintf("s%d", i)
		owner := map[string]*node{"n1": a, "n2": b}[n.owner("default/"+id)]
		until(t, id+" takes a message", func() bool { return owner.engine.Absorb(id, fmt.Sprintf(`{"t":%d}`, to), 0, false).Err == nil })
	}
	for i := range 40 {
		change(a, i, i)
		sum += float64(i)
	}
	for _, id := range []string{"floor", "floor-b", "floor-c"} {
		a.derives(id, "mean", fmt.Sprint(sum/40)+" good")
	}
	b.close()
	b = a
	until(t, "a has all", func() bool {
		for i := range 40 {
			if a.owner(fmt.Sprintf("default/s%d", i)) != "n1" {
				return false
			}
		}
		return true
	})
	change(a, 0, 40)
	change(a, 1, 41)
	sum += 80
	for _, id := range []string{"floor", "floor-b", "floor-c"} {
		a.derives(id, "mean", fmt.Sprint(sum/40)+" good")
	}
}
