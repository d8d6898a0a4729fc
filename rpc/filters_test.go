package rpc_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// truth of a condition: what reads a value that is not there is unclear, and a filter takes that for no.
type truth int8

const (
	no truth = iota
	unclear
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// sighted is a twin as filters see it.
type sighted struct {
	id, zone string
	labels   map[string]string
	level    *float64
	power    *string
	on       *bool
	lat, lon float64
	placed   bool
}

// condition is an expression, and what it is of a twin.
type condition struct {
	text string
	of   func(*sighted) truth
}

const probeModel = `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Probe","properties":{"level":{"type":"number","readOnly":true},
	"power":{"type":"string","readOnly":true},"on":{"type":"boolean","readOnly":true},"location":{"type":"object","readOnly":true}}}`

// places are on both sides of the date line, at the poles, where the axes cross, and elsewhere.
var places = [][2]float64{{52.3, 13}, {52.7, 13.8}, {52.5163, 13.3777}, {-16.5, 179.9}, {-16.5, -179.9}, {-17.1, 179.3}, {-18, -178.7}, {89.99, 10}, {89.99, -170},
	{90, 0}, {-90, 120}, {0, 0}, {0.1, -0.1}, {-33.8688, 151.2093}, {10, 180}, {10, -180}, {1e-7, 179.9999999}}

// filtered is a project of twins.
type filtered struct {
	h       *house
	project string
	random  *rand.Rand
	twins   []*sighted
}

func newFiltered(t *testing.T, n int) *filtered {
	f := &filtered{h: openHouse(t), project: fresh("filter"), random: rand.New(rand.NewPCG(5, 6))}
	if _, err := rpcv1.NewModelServiceClient(f.h.http(f.h.admin), f.h.url).CreateModel(t.Context(), req(&pb.CreateModelRequest{Model: &pb.Model{Id: f.project + "/probe", ThingJson: probeModel}})); err != nil {
		t.Fatal(err)
	}
	for _, zone := range []string{"east", "west"} {
		if _, err := rpcv1.NewSiteServiceClient(f.h.http(f.h.admin), f.h.url).PutZone(t.Context(), req(&pb.PutZoneRequest{Zone: &pb.Zone{Id: f.project + "/" + zone}})); err != nil {
			t.Fatal(err)
		}
	}
	var messages []string
	for i := range n {
		s := &sighted{id: fmt.Sprintf("%s/t%d", f.project, i), labels: map[string]string{}}
		if z := f.random.IntN(3); z < 2 {
			s.zone = f.project + "/" + []string{"east", "west"}[z]
		}
		for _, label := range []string{"floor", "use"} {
			if f.random.IntN(3) > 0 {
				s.labels[label] = fmt.Sprint(f.random.IntN(3))
			}
		}
		var data []string
		if f.random.IntN(3) > 0 {
			level := float64(f.random.IntN(8)) / 2
			s.level = &level
			data = append(data, fmt.Sprintf(`"level":%v`, level))
		}
		if f.random.IntN(3) > 0 {
			power := []string{"on", "off"}[f.random.IntN(2)]
			s.power = &power
			data = append(data, fmt.Sprintf(`"power":%q`, power))
		}
		if f.random.IntN(3) > 0 {
			on := f.random.IntN(2) == 0
			s.on = &on
			data = append(data, fmt.Sprintf(`"on":%v`, on))
		}
		if f.random.IntN(4) > 0 {
			p := places[f.random.IntN(len(places))]
			s.lat, s.lon, s.placed = p[0], p[1], true
			if f.random.IntN(2) == 0 {
				s.labels["location"] = fmt.Sprintf("%v,%v", s.lat, s.lon)
			} else {
				data = append(data, fmt.Sprintf(`"location":{"lat":%v,"lon":%v}`, s.lat, s.lon))
			}
		}
		if _, err := f.h.twins(f.h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: s.id, Model: "probe", Zone: s.zone, Labels: s.labels}})); err != nil {
			t.Fatal(err)
		}
		if len(data) > 0 {
			messages = append(messages, fmt.Sprintf(`{"twin":"t%d","data":{%s}}`, i, strings.Join(data, ",")))
		}
		f.twins = append(f.twins, s)
	}
	if status, a := f.h.ingest(t, f.h.admin, f.project, "["+strings.Join(messages, ",")+"]"); status != http.StatusOK || a.Stored != uint64(len(messages)) {
		t.Fatalf("status %d, stored %d of %d: %+v", status, a.Stored, len(messages), a)
	}
	// The index learns of places some seconds later.
	placed := 0
	for _, s := range f.twins {
		placed += int(truthOf(s.placed)) / int(yes)
	}
	world := &pb.SearchRequest{Within: []*pb.GeoPoint{{Lat: -90, Lon: -180}, {Lat: 90, Lon: 180}}}
	for deadline := time.Now().Add(patience); len(f.search(t, world)) != placed || len(f.search(t, &pb.SearchRequest{})) != n; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d places are found, want %d", len(f.search(t, world)), placed)
		}
	}
	return f
}

// search gives the ids of all twins that are found, page by page, in their order.
func (f *filtered) search(t *testing.T, r *pb.SearchRequest) (ids []string) {
	t.Helper()
	r.Project, r.Kinds, r.PageSize, r.PageToken = f.project, []string{"twin"}, uint32(1+f.random.IntN(20)), ""
	for {
		res, err := rpcv1.NewSearchServiceClient(f.h.http(f.h.admin), f.h.url).Search(t.Context(), req(r))
		if err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		for _, hit := range res.Msg.Hits {
			ids = append(ids, hit.Id)
		}
		if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
			if int(res.Msg.Total) != len(ids) {
				t.Errorf("%v: %d of %d", r, len(ids), res.Msg.Total)
			}
			break
		}
	}
	slices.Sort(ids)
	return ids
}

// list gives the ids of the twins that a filter leaves.
func (f *filtered) list(t *testing.T, filter *pb.TwinFilter) (ids []string) {
	t.Helper()
	r := &pb.ListTwinsRequest{Filter: filter, PageSize: uint32(1 + f.random.IntN(20))}
	for {
		res, err := f.h.twins(f.h.admin).ListTwins(t.Context(), req(r))
		if err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		for _, twin := range res.Msg.Twins {
			ids = append(ids, twin.Id)
		}
		if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
			return ids
		}
	}
}

// watch gives the ids of the twins that a watch tells of, until it has told of all that are wanted.
func (f *filtered) watch(t *testing.T, where string, want []string) (ids []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := f.h.twins(f.h.admin).WatchTwins(ctx, req(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Project: f.project, Where: where}}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for len(ids) < len(want) && s.Receive() {
		if s.Msg().GetState() != nil {
			ids = append(ids, s.Msg().Id)
		}
	}
	slices.Sort(ids)
	return ids
}

// atom makes up a condition of one thing.
func (f *filtered) atom() condition {
	floor, level, power := fmt.Sprint(f.random.IntN(3)), float64(f.random.IntN(8))/2, []string{"on", "off"}[f.random.IntN(2)]
	all := []condition{
		{fmt.Sprintf(`twin.labels.floor == %q`, floor), func(s *sighted) truth {
			if s.labels["floor"] == "" {
				return unclear
			}
			return truthOf(s.labels["floor"] == floor)
		}},
		{`"use" in twin.labels`, func(s *sighted) truth { return truthOf(s.labels["use"] != "") }},
		{`has(twin.properties.level)`, func(s *sighted) truth { return truthOf(s.level != nil) }},
		{fmt.Sprintf(`twin.properties.level * 2 > %v`, level*2), func(s *sighted) truth {
			if s.level == nil {
				return unclear
			}
			return truthOf(*s.level > level)
		}},
		{fmt.Sprintf(`twin.properties.level in [1, %v, 3]`, level), func(s *sighted) truth {
			if s.level == nil {
				return unclear
			}
			return truthOf(*s.level == 1 || *s.level == level || *s.level == 3)
		}},
		{fmt.Sprintf(`twin.properties["power"] == %q`, power), func(s *sighted) truth {
			if s.power == nil {
				return unclear
			}
			return truthOf(*s.power == power)
		}},
		{`twin.properties.on`, func(s *sighted) truth {
			if s.on == nil {
				return unclear
			}
			return truthOf(*s.on)
		}},
		{`twin.zone.endsWith("/east")`, func(s *sighted) truth { return truthOf(strings.HasSuffix(s.zone, "/east")) }},
		{`twin.name in ["t1", "t2", "t30"]`, func(s *sighted) truth {
			return truthOf(slices.Contains([]string{"t1", "t2", "t30"}, s.id[strings.Index(s.id, "/")+1:]))
		}},
		{fmt.Sprintf(`twin.model == "%s/probe"`, f.project), func(*sighted) truth { return yes }},
		{`twin.status == "none"`, func(*sighted) truth { return yes }},
	}
	box, near := f.box(), f.near()
	all = append(all, condition{fmt.Sprintf("within(twin.location, [[%v, %v], [%v, %v]])", box[0].Lat, box[0].Lon, box[1].Lat, box[1].Lon), func(s *sighted) truth {
		if !s.placed {
			return unclear
		}
		return truthOf(s.inBox(box))
	}}, condition{fmt.Sprintf("near(twin.location, %v, %v, %v)", near.Place.Lat, near.Place.Lon, near.Metres), func(s *sighted) truth {
		if !s.placed {
			return unclear
		}
		return truthOf(s.isNear(near))
	}})
	return all[f.random.IntN(len(all))]
}

// condition makes up one of some depth.
func (f *filtered) condition(deep int) condition {
	if deep == 0 {
		return f.atom()
	}
	a, b := f.condition(deep-1), f.condition(deep-1)
	switch f.random.IntN(4) {
	case 0:
		return condition{"!(" + a.text + ")", func(s *sighted) truth { return yes - a.of(s) }}
	case 1:
		return condition{"(" + a.text + ") && (" + b.text + ")", func(s *sighted) truth { return min(a.of(s), b.of(s)) }}
	case 2:
		return condition{"(" + a.text + ") || (" + b.text + ")", func(s *sighted) truth { return max(a.of(s), b.of(s)) }}
	}
	return a
}

// box has its corners where twins are, the southern one first; where the first one is the eastern by more than half of the earth it goes over the date line.
func (f *filtered) box() []*pb.GeoPoint {
	p, q := places[f.random.IntN(len(places))], places[f.random.IntN(len(places))]
	return []*pb.GeoPoint{{Lat: p[0], Lon: p[1]}, {Lat: q[0], Lon: q[1]}}
}

func (s *sighted) inBox(box []*pb.GeoPoint) bool {
	a, b := box[0], box[1]
	if s.lat < min(a.Lat, b.Lat) || s.lat > max(a.Lat, b.Lat) {
		return false
	}
	if a.Lon-b.Lon > 180 {
		return s.lon >= a.Lon || s.lon <= b.Lon
	}
	return s.lon >= min(a.Lon, b.Lon) && s.lon <= max(a.Lon, b.Lon)
}

func (f *filtered) near() *pb.Near {
	p := places[f.random.IntN(len(places))]
	return &pb.Near{Place: &pb.GeoPoint{Lat: p[0], Lon: p[1]}, Metres: []float64{1, 3_000, 60_000, 400_000, 9_000_000}[f.random.IntN(5)]}
}

// isNear computes a distance by the angle between two vectors.
func (s *sighted) isNear(n *pb.Near) bool {
	vector := func(lat, lon float64) (x, y, z float64) {
		lat, lon = lat*math.Pi/180, lon*math.Pi/180
		return math.Cos(lat) * math.Cos(lon), math.Cos(lat) * math.Sin(lon), math.Sin(lat)
	}
	a, b, c := vector(s.lat, s.lon)
	x, y, z := vector(n.Place.Lat, n.Place.Lon)
	cross := math.Hypot(math.Hypot(b*z-c*y, c*x-a*z), a*y-b*x)
	return math.Atan2(cross, a*x+b*y+c*z)*6371008.8 <= n.Metres
}

func (f *filtered) ids(holds func(*sighted) bool) (ids []string) {
	for _, s := range f.twins {
		if holds(s) {
			ids = append(ids, s.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// TestFiltersAgree: one expression leaves the same twins in a list, in a search and in a watch: those for which it holds.
func TestFiltersAgree(t *testing.T) {
	f := newFiltered(t, 60)
	for i := range 120 {
		c := f.condition(i % 4)
		want := f.ids(func(s *sighted) bool { return c.of(s) == yes })
		for what, got := range map[string][]string{"list": f.list(t, &pb.TwinFilter{Project: f.project, Where: c.text}), "search": f.search(t, &pb.SearchRequest{Where: c.text}),
			"watch": f.watch(t, c.text, want)} {
			if !slices.Equal(got, want) {
				t.Errorf("%s of %s:\ngot  %v\nwant %v", what, c.text, got, want)
			}
		}
	}
	for range 100 {
		box, near := f.box(), f.near()
		if got, want := f.search(t, &pb.SearchRequest{Within: box}), f.ids(func(s *sighted) bool { return s.placed && s.inBox(box) }); !slices.Equal(got, want) {
			t.Errorf("in the box %v:\ngot  %v\nwant %v", box, got, want)
		}
		if got, want := f.search(t, &pb.SearchRequest{Near: near}), f.ids(func(s *sighted) bool { return s.placed && s.isNear(near) }); !slices.Equal(got, want) {
			t.Errorf("near %v:\ngot  %v\nwant %v", near, got, want)
		}
	}
	for i := range 20 {
		f.facets(t, f.condition(i%3))
	}
	// What is no twin can be meant beside twins.
	for where, want := range map[string]int{`entry.kind == "zone" || twin.name == "t1"`: 3, `entry.kind == "zone" && !twin.stopped`: 0, `twin.name == "t1"`: 1} {
		res, err := rpcv1.NewSearchServiceClient(f.h.http(f.h.admin), f.h.url).Search(t.Context(), req(&pb.SearchRequest{Project: f.project, Where: where}))
		if err != nil || int(res.Msg.Total) != want {
			t.Errorf("%s: %v, %v, want %d", where, res, err, want)
		}
	}
}

// facets: what a facet counts is what is found with it.
func (f *filtered) facets(t *testing.T, c condition) {
	t.Helper()
	r := &pb.SearchRequest{Project: f.project, Kinds: []string{"twin"}, Where: c.text, CountFacets: true}
	res, err := rpcv1.NewSearchServiceClient(f.h.http(f.h.admin), f.h.url).Search(t.Context(), req(r))
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]uint64{}
	for _, facet := range res.Msg.Facets {
		for _, v := range facet.Values {
			if got := f.search(t, &pb.SearchRequest{Where: c.text, Facets: []*pb.FacetValue{{Name: facet.Name, Value: v.Value}}}); len(got) != int(v.Hits) {
				t.Errorf("%s=%s: %d are counted, and %d found", facet.Name, v.Value, v.Hits, len(got))
			}
			counted[facet.Name] += v.Hits
		}
	}
	for _, one := range []string{"kind", "project", "model", "status"} { // every twin has one
		if counted[one] != res.Msg.Total {
			t.Errorf("%s: %d are counted of %d: %v", one, counted[one], res.Msg.Total, res.Msg.Facets)
		}
	}
}
