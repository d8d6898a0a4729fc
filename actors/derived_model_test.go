package actors_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// TestDerivedModel: twins, zones, systems, relations, models and formulas change at random while values come and the node ends anyhow. When all
// is quiet each property that is computed is what its formula gives of what its sources say; what is on a circle, and nothing else, is stopped.
func TestDerivedModel(t *testing.T) {
	harness.Seeds(t, 2, func(t *testing.T, seed uint64) {
		w := &derivedWalk{t: t, fs: vfs.NewCrashableMem(), rnd: rand.New(rand.NewPCG(seed, 1)), formulas: map[string]formula{}}
		if seed%2 == 0 {
			t.Parallel()
			w.open()
		} else {
			w.n, w.other = pairLeased(t, 0)
		}
		w.run()
	})
}

// derivedWalk is a walk at random through what may change a derived property.
type derivedWalk struct {
	t        *testing.T
	fs       *vfs.MemFS
	n        *node
	other    *node // nil: n is alone
	drained  string
	lives    uint64
	rnd      *rand.Rand
	formulas map[string]formula // by their texts
	log      []string
}

// formula is one as the oracle knows it: f1(set1.p1) + f2(set2.p2) [+ own property] [+ desired value].
type formula struct {
	aggregates   []aggregate
	own, desired string
}

type aggregate struct{ function, kind, of, arg, property string }

var (
	walkTwins   = []string{"a", "b.1", "b.2", "c", "d.x", "e"}
	walkZones   = []string{"z0", "z1", "z2", "z3"}
	walkSystems = []string{"s0", "s1"}
	walkModels  = []string{"m0", "m1"}
)

func pick[T any](r *rand.Rand, all []T) T { return all[r.IntN(len(all))] }

func (w *derivedWalk) run() {
	for _, m := range walkModels {
		w.n.model(m, w.thing(""))
	}
	for _, z := range walkZones {
		w.apply(`{"zone":{"id":%q}}`, z)
	}
	for range 60 {
		w.step()
	}
	w.settle()
}

func (w *derivedWalk) open() {
	w.lives++
	w.n = open(w.t, w.fs, w.lives)
}

// apply applies a record, which may be refused.
func (w *derivedWalk) apply(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	w.log = append(w.log, line+": "+strings.Join(w.n.apply(&pb.ApplyRequest{Records: configs(w.t, line)}), " "))
}

func (w *derivedWalk) thing(derived string) string {
	properties := `"v":{"type":"number"},"on":{"type":"boolean"}`
	if derived != "" {
		text, _ := json.Marshal(derived)
		properties += `,"md":{"type":"number","readOnly":true,"pollux:derived":` + string(text) + `}`
	}
	return thing("M", properties)
}

func (w *derivedWalk) step() {
	r := w.rnd
	twin, zone, system, model := pick(r, walkTwins), pick(r, walkZones), pick(r, walkSystems), pick(r, walkModels)
	switch n := r.IntN(100); {
	case n < 35:
		x := fmt.Sprint(r.IntN(100))
		if r.IntN(8) == 0 {
			x = "1e17"
		}
		if _, err := w.n.reg.GetTwin(twin); err == nil {
			payload := fmt.Sprintf(`{"v":%s,"on":%t}`, x, r.IntN(2) == 0)
			done := make(chan actors.IngestResult, 1)
			w.n.engine.Ingest(&actors.Ingest{Door: "http", Project: "default", Twin: twin, Payload: []byte(payload), Commit: true}, func(r actors.IngestResult) { done <- r })
			w.log = append(w.log, fmt.Sprintf("%s: %s %v", twin, payload, (<-done).Outcome))
		}
	case n < 60:
		doc := map[string]any{"id": twin, "model": model}
		if r.IntN(4) > 0 {
			doc["zone"] = zone
		}
		derived := map[string]string{}
		for i := range r.IntN(3) {
			derived[fmt.Sprintf("d%d", i)] = w.formula()
		}
		doc["derived"] = derived
		text, _ := json.Marshal(doc)
		w.apply(`{"twin":%s}`, text)
	case n < 65:
		w.log = append(w.log, fmt.Sprintf("delete %s: %v", twin, w.n.reg.DeleteTwin(ctx(w.t), twin, 0)))
	case n < 72:
		parent := ""
		if r.IntN(3) > 0 {
			parent = pick(r, walkZones)
		}
		w.apply(`{"zone":{"id":%q,"parent":%q}}`, zone, parent)
	case n < 80:
		var members []string
		for i, id := range walkTwins {
			if _, err := w.n.reg.GetTwin(id); err == nil && r.IntN(2) == 0 {
				members = append(members, fmt.Sprintf(`{"name":"P_%d","twin":%q}`, i, id))
			}
		}
		w.apply(`{"system":{"id":%q,"members":[%s]}}`, system, strings.Join(members, ","))
	case n < 88:
		to := pick(r, walkTwins)
		if _, err := w.n.reg.CreateRelation(ctx(w.t), &pb.Relation{From: twin, Type: "adds", To: to}, "me"); err == nil {
			w.log = append(w.log, twin+" adds "+to)
		} else if err := w.n.reg.DeleteRelation(ctx(w.t), twin+"/adds/"+to); err == nil {
			w.log = append(w.log, twin+" adds no "+to)
		}
	case n < 92:
		m, err := w.n.reg.GetModel(model)
		if err != nil {
			w.t.Fatal(err)
		}
		m.ThingJson = w.thing("")
		if r.IntN(2) == 0 {
			m.ThingJson = w.thing(w.formula())
		}
		_, err = w.n.reg.UpdateModel(ctx(w.t), m)
		w.log = append(w.log, fmt.Sprintf("model %s: %s %v", model, m.ThingJson, err))
	case n < 95:
		_, err := w.n.client.SetDesired(ctx(w.t), &pb.SetDesiredRequest{Id: twin, Property: "v", Value: structpb.NewNumberValue(float64(r.IntN(100)))}, "me")
		w.log = append(w.log, fmt.Sprintf("desired of %s: %v", twin, err))
	case n < 98 && w.other != nil:
		if w.drained == "" {
			w.drained = pick(r, []string{"n1", "n2"})
			w.n.drain(w.drained)
		} else {
			w.n.undrain(w.drained)
			w.drained = ""
		}
		w.log = append(w.log, "drained: "+w.drained)
	case n < 98:
		left := w.fs.CrashClone(vfs.CrashCloneCfg{})
		w.n.close()
		w.fs = left
		w.open()
		w.log = append(w.log, "crash")
	default:
		w.settle()
	}
}

// formula makes one at random.
func (w *derivedWalk) formula() string {
	r := w.rnd
	var f formula
	var parts []string
	for range 1 + r.IntN(2) {
		a := aggregate{function: pick(r, []string{"avg", "sum", "sum", "min", "max", "count", "first"}), property: pick(r, []string{"v", "v", "d0", "d1", "md"}),
			kind: pick(r, []string{"zone", "zone", "system", "adds", "-adds", "twins"})}
		set := ""
		switch a.kind {
		case "zone":
			if r.IntN(2) == 0 {
				a.of = pick(r, walkZones)
			}
			if r.IntN(3) == 0 {
				a.arg = pick(r, walkModels)
			}
		case "system":
			if r.IntN(2) == 0 {
				a.of = pick(r, walkSystems)
			}
		case "twins":
			a.arg = pick(r, walkTwins)
			set = fmt.Sprintf("twins(%q)", a.arg)
		default:
			set = fmt.Sprintf("related(%q)", a.kind)
		}
		if set == "" {
			set = a.kind
			if a.of != "" {
				set += fmt.Sprintf("(%q)", a.of)
			}
			set += ".twins("
			if a.arg != "" {
				set += strconv.Quote(a.arg)
			}
			set += ")"
		}
		if a.function == "count" && r.IntN(3) == 0 {
			a.property = ""
		} else {
			set += "." + a.property
		}
		f.aggregates = append(f.aggregates, a)
		parts = append(parts, a.function+"("+set+")")
	}
	if r.IntN(5) == 0 {
		f.own = pick(r, []string{"v", "d0", "md"})
		parts = append(parts, "twin.properties."+f.own)
	}
	if r.IntN(6) == 0 {
		f.desired = "v"
		parts = append(parts, "twin.desired.v")
	}
	text := strings.Join(parts, " + ")
	w.formulas[text] = f
	return text
}

// site is the configuration as the registry has it, with what each twin says.
type site struct {
	twins     map[string]*pb.Twin
	states    map[string]*pb.TwinState
	parents   map[string]string
	systems   map[string]*pb.System
	relations []*pb.Relation
	formulas  map[string]map[string]formula // by twin and property
}

func (w *derivedWalk) read() *site {
	s := &site{twins: map[string]*pb.Twin{}, states: map[string]*pb.TwinState{}, parents: map[string]string{}, systems: map[string]*pb.System{}, formulas: map[string]map[string]formula{}}
	fail := func(err error) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	twins, err := w.n.reg.ListTwins(&pb.ListTwinsRequest{}, nil)
	fail(err)
	zones, err := w.n.reg.ListZones(&pb.ListZonesRequest{Project: "default"}, nil)
	fail(err)
	systems, err := w.n.reg.ListSystems(&pb.ListSystemsRequest{Project: "default"}, nil)
	fail(err)
	relations, err := w.n.reg.ListRelations(&pb.ListRelationsRequest{Project: "default"}, nil)
	fail(err)
	s.relations = relations.Relations
	for _, z := range zones.Zones {
		s.parents[z.Id] = z.Parent
	}
	for _, x := range systems.Systems {
		s.systems[x.Id] = x
	}
	models := map[string]string{}
	for _, id := range walkModels {
		m, err := w.n.reg.GetModel(id)
		fail(err)
		var doc struct {
			Properties map[string]map[string]any `json:"properties"`
		}
		fail(json.Unmarshal([]byte(m.ThingJson), &doc))
		models[m.Id], _ = doc.Properties["md"]["pollux:derived"].(string)
	}
	for _, x := range twins.Twins {
		s.twins[x.Id] = x
		if s.states[x.Id], err = w.n.client.State(ctx(w.t), x.Id, false); err != nil {
			s.states[x.Id] = &pb.TwinState{} // it moves
		}
		s.formulas[x.Id] = map[string]formula{}
		for p, text := range x.Derived {
			s.formulas[x.Id][p] = w.formulas[text]
		}
		if text := models[x.Model]; text != "" {
			s.formulas[x.Id]["md"] = w.formulas[text]
		}
	}
	return s
}

// members are the twins of a set, sorted.
func (s *site) members(id string, a aggregate) (ids []string) {
	of := "default/" + a.of
	if a.of == "" {
		of = s.twins[id].Zone
	}
	for _, other := range slices.Sorted(maps.Keys(s.twins)) {
		in := false
		switch a.kind {
		case "zone":
			for z, n := s.twins[other].Zone, 0; z != "" && n < 10; z, n = s.parents[z], n+1 {
				in = in || z == of
			}
			in = in && (a.arg == "" || s.twins[other].Model == "default/"+a.arg)
		case "system":
			for name, x := range s.systems {
				has := func(id string) bool {
					return slices.ContainsFunc(x.Members, func(m *pb.System_Member) bool { return m.Twin == id })
				}
				in = in || has(other) && (a.of != "" && name == of || a.of == "" && has(id))
			}
		case "adds", "-adds":
			for _, r := range s.relations {
				from, to := id, other
				if a.kind == "-adds" {
					from, to = other, id
				}
				in = in || r.From == from && r.To == to
			}
		}
		if in && other != id {
			ids = append(ids, other)
		}
	}
	if named := "default/" + a.arg; a.kind == "twins" && named != id && (a.property != "" || s.twins[named] != nil) {
		ids = []string{named}
	}
	return ids
}

// good is a number that a twin says of a property.
func (s *site) good(id, property string) (float64, bool) {
	p := s.states[id].GetProperties()[property]
	return p.GetValue().GetNumberValue(), p != nil && p.Quality == pb.Quality_QUALITY_GOOD
}

// value is what a formula gives; false: nothing.
func (s *site) value(id string, f formula) (total float64, ok bool) {
	for _, a := range f.aggregates {
		ids := s.members(id, a)
		var all []float64
		for _, other := range ids {
			if x, ok := s.good(other, a.property); ok {
				all = append(all, x)
			}
		}
		sum := 0.0
		for _, x := range all {
			sum += x
		}
		switch {
		case a.function == "count" && a.property == "":
			total += float64(len(ids))
		case a.function == "count":
			total += float64(len(all))
		case a.function == "sum":
			total += sum
		case len(all) == 0:
			return 0, false
		case a.function == "avg":
			total += sum / float64(len(all))
		case a.function == "min":
			total += slices.Min(all)
		case a.function == "max":
			total += slices.Max(all)
		case a.function == "first":
			total += all[0]
		}
	}
	if p := s.states[id].Properties[f.own]; f.own != "" {
		total += p.GetValue().GetNumberValue()
		ok = p == nil
	}
	if d := s.states[id].Desired[f.desired]; f.desired != "" {
		total += d.GetValue().GetNumberValue()
		ok = ok || d == nil
	}
	return total, !ok
}

// round says whether a property is on a way back to itself.
func (s *site) round(id, property string) bool {
	seen, start := map[string]bool{}, id+" "+property
	var walk func(id, property string) bool
	walk = func(id, property string) bool {
		key := id + " " + property
		if key == start && len(seen) > 0 {
			return true
		}
		f, ok := s.formulas[id][property]
		if !ok || seen[key] {
			return false
		}
		seen[key] = true
		for _, a := range f.aggregates {
			for _, other := range s.members(id, a) {
				if walk(other, a.property) {
					return true
				}
			}
		}
		return f.own != "" && walk(id, f.own) || f.desired != "" && walk(id, f.desired)
	}
	return walk(id, property)
}

// wrong says what is not as it should be.
func (s *site) wrong() (all []string) {
	for id, formulas := range s.formulas {
		for property, f := range formulas {
			p, d := s.states[id].Properties[property], s.states[id].Derived[property]
			want, ok := s.value(id, f)
			got := p.GetValue().GetNumberValue()
			fail := func(what string) {
				all = append(all, fmt.Sprintf("%s.%s %+v: %s: %v, %v", id, property, f, what, p, d))
			}
			switch round := s.round(id, property); {
			case d == nil:
				fail("not computed")
			case round != strings.Contains(d.Error, "depends on itself"):
				fail(fmt.Sprintf("on a circle: %t", round))
			case round && p != nil && p.Quality != pb.Quality_QUALITY_BAD:
				fail("it is to be bad")
			case round:
			case !ok && p != nil && p.Quality != pb.Quality_QUALITY_STALE:
				fail("it is to be stale")
			case ok && (p == nil || p.Quality != pb.Quality_QUALITY_GOOD || math.Abs(got-want) > 1e-9*math.Abs(want)):
				fail(fmt.Sprintf("want %v", want))
			}
		}
	}
	return all
}

// settle waits until all is as it should be.
func (w *derivedWalk) settle() {
	var wrong []string
	defer func() {
		if w.t.Failed() {
			w.t.Logf("%s\n%s", strings.Join(w.log, "\n"), strings.Join(wrong, "\n"))
		}
	}()
	until(w.t, "everything is computed", func() bool {
		wrong = w.read().wrong()
		return len(wrong) == 0
	})
	w.log = append(w.log, "settled")
}
