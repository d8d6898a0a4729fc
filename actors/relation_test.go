package actors_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// house makes two zones, three twins and a system.
func house(t *testing.T) *node {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	for _, group := range []string{`{"zone":{"id":"hq"}}`, `{"zone":{"id":"cellar","parent":"hq"}}`, `{"twin":{"id":"pump","driver":"probe","zone":"cellar"}}
{"twin":{"id":"boiler","driver":"probe","zone":"cellar"}}
{"twin":{"id":"meter","driver":"probe"}}`, `{"system":{"id":"heating","zone":"cellar","members":[{"name":"Pump_1","twin":"pump"}]}}`} {
		for _, line := range n.apply(&pb.ApplyRequest{Records: configs(t, strings.Split(group, "\n")...)}) {
			if !strings.HasPrefix(line, "created ") {
				t.Fatal(line)
			}
		}
	}
	return n
}

func (n *node) relate(from, kind, to string) *pb.Relation {
	n.t.Helper()
	m, err := n.reg.CreateRelation(ctx(n.t), &pb.Relation{From: from, Type: kind, To: to}, "me")
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

// listed gives the ids of relations, page by page.
func (n *node) listed(req *pb.ListRelationsRequest) string {
	n.t.Helper()
	var ids []string
	req = proto.Clone(req).(*pb.ListRelationsRequest)
	for req.PageSize = 2; ; {
		res, err := n.reg.ListRelations(req, nil)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, m := range res.Relations {
			ids = append(ids, strings.TrimPrefix(m.Id, "default/"))
		}
		if req.PageToken = res.NextPageToken; req.PageToken == "" {
			return strings.Join(ids, " ")
		}
	}
}

func TestRelations(t *testing.T) {
	n := house(t)
	m := n.relate("pump", "feeds", "boiler")
	if m.Id != "default/pump/feeds/boiler" || m.From != "default/pump" || m.Revision == 0 || m.UpdateBy != "me" || m.CreateTime == nil {
		t.Errorf("%v", m)
	}
	n.relate("meter", "measures", "zone:cellar")
	n.relate("meter", "measures", "boiler")
	n.relate("system:heating", "serves", "zone:hq")
	for want, req := range map[string]*pb.ListRelationsRequest{
		"meter/measures/boiler meter/measures/zone:cellar pump/feeds/boiler system:heating/serves/zone:hq": {Project: "default"},
		"pump/feeds/boiler meter/measures/boiler":                                                          {To: "boiler"},
		"pump/feeds/boiler": {Of: "boiler", Type: "feeds"},
		"meter/measures/boiler meter/measures/zone:cellar": {Of: "default/meter"},
		"meter/measures/zone:cellar":                       {From: "meter", To: "zone:cellar"},
		"system:heating/serves/zone:hq":                    {Of: "zone:hq"},
		"":                                                 {From: "boiler"},
	} {
		if got := n.listed(req); got != want {
			t.Errorf("%v: %q, want %q", req, got, want)
		}
	}

	// What it says beside its ends changes; its ends do not.
	m.Title = "Main loop"
	m, err := n.reg.UpdateRelation(ctx(t), m, "you")
	if err != nil || m.Title != "Main loop" || m.UpdateBy != "you" {
		t.Errorf("%v, %v", m, err)
	}
	old := proto.Clone(m).(*pb.Relation)
	old.Revision--
	if _, err := n.reg.UpdateRelation(ctx(t), old, "me"); !errors.Is(err, actors.ErrRevision) {
		t.Error(err)
	}
	for want, bad := range map[string]*pb.Relation{
		"already exists":              {From: "pump", Type: "feeds", To: "boiler"},
		"/relation/to: there is no":   {From: "pump", Type: "feeds", To: "nobody"},
		"/relation/from: there is no": {From: "zone:attic", Type: "feeds", To: "pump"},
		"in another project":          {From: "pump", Type: "feeds", To: "other/x"},
		"/relation/type":              {From: "pump", Type: "2nd", To: "boiler"},
		"to itself":                   {From: "pump", Type: "feeds", To: "pump"},
		"a twin's id, zone:ID":        {From: "floor:x", Type: "feeds", To: "pump"},
		"do not change":               {Id: "default/pump/feeds/boiler", From: "pump", Type: "heats", To: "boiler"},
	} {
		if _, err := n.reg.CreateRelation(ctx(t), bad, "me"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", bad, err, want)
		}
	}

	// As configuration it goes round.
	for _, line := range n.exported("default") {
		if strings.Contains(line, "relation") {
			sameLines(t, line, n.apply(&pb.ApplyRequest{Records: configs(t, line)}), "unchanged relation default/")
		}
	}
	sameLines(t, "dry run", n.tried(configs(t, `{"twin":{"id":"new","driver":"probe"}}`), configs(t,
		`{"relation":{"from":"new","type":"feeds","to":"boiler"}}`, `{"relation":{"from":"pump","type":"feeds","to":"boiler","title":"x"}}`)),
		"created twin default/new", "created relation default/new/feeds/boiler", `changed relation default/pump/feeds/boiler title:"Main loop"->"x"`)

	// An end takes its relations with it; what is at the other ends stays.
	if err := n.reg.DeleteTwin(ctx(t), "boiler", 0); err != nil {
		t.Fatal(err)
	}
	if got, want := n.listed(&pb.ListRelationsRequest{}), "meter/measures/zone:cellar system:heating/serves/zone:hq"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := n.reg.DeleteSystem(ctx(t), "heating"); err != nil {
		t.Fatal(err)
	}
	if err := n.reg.DeleteRelation(ctx(t), "meter/measures/zone:cellar"); err != nil {
		t.Fatal(err)
	}
	if err := n.reg.DeleteRelation(ctx(t), "meter/measures/zone:cellar"); !errors.Is(err, actors.ErrNotFound) {
		t.Error(err)
	}
	for _, table := range []string{"relation", "related"} {
		if c, err := n.store.Count(storage.Table(table), ""); c != 0 || err != nil {
			t.Errorf("%d records are left in %s, %v", c, table, err)
		}
	}
}

// A thing with very many relations can be deleted, and whoever relates to it meanwhile either was before or is refused: no relation
// dangles.
func TestRelationsDoNotDangle(t *testing.T) {
	n := house(t)
	const many = 450
	var twins, relations []*pb.ConfigRecord
	for i := range many {
		twins = append(twins, configs(t, fmt.Sprintf(`{"twin":{"id":"room-%03d","driver":"probe"}}`, i))...)
		relations = append(relations, configs(t, fmt.Sprintf(`{"relation":{"from":"boiler","type":"heats","to":"room-%03d"}}`, i))...)
	}
	for at := 0; at < many; at += 150 {
		n.apply(&pb.ApplyRequest{Records: twins[at : at+150]})
		for _, line := range n.apply(&pb.ApplyRequest{Records: relations[at : at+150]}) {
			if !strings.HasPrefix(line, "created ") {
				t.Fatal(line)
			}
		}
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			_, err := n.reg.CreateRelation(ctx(t), &pb.Relation{From: fmt.Sprintf("room-%03d", i), Type: "reports", To: "boiler"}, "me")
			if err != nil && !errors.Is(err, actors.ErrInvalid) && !errors.Is(err, actors.ErrRevision) {
				t.Error(err)
			}
		})
	}
	var err error
	for range 10 {
		if err = n.reg.DeleteTwin(ctx(t), "boiler", 0); !errors.Is(err, actors.ErrRevision) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if got := n.listed(&pb.ListRelationsRequest{}); got != "" {
		t.Errorf("dangling: %s", got)
	}
}

func TestWalk(t *testing.T) {
	n := house(t)
	n.relate("pump", "feeds", "boiler")
	n.relate("meter", "measures", "boiler")
	n.relate("meter", "measures", "zone:cellar")
	for path, want := range map[string]string{
		"default":                                    "zones hq",
		"default/hq":                                 "at hq zones cellar",
		"default/hq/cellar":                          "at cellar systems heating twins boiler pump to measures",
		"default/hq/cellar/pump":                     "at cellar at pump from feeds",
		"default/hq/cellar/pump/@feeds":              "twins boiler",
		"default/hq/cellar/pump/@feeds/boiler":       "at cellar at boiler to feeds measures",
		"default/hq/cellar/boiler/@-feeds/@feeds":    "twins boiler",
		"default/meter/@measures":                    "zones cellar twins boiler",
		"default/meter/@measures/zone:cellar/pump":   "at cellar at pump from feeds",
		"default/hq/cellar/system:heating/Pump_1":    "at cellar at pump from feeds",
		"default/hq/cellar/system:heating":           "at heating twins pump",
		"default/hq/cellar/@-measures/meter/@weighs": "",
		"default/hq/attic":                           "not found",
		"default/hq/cellar/pump/boiler":              "not found",
		"default/hq/cellar/pump/@feeds/pump":         "not found",
		"default/@feeds":                             "a project has no relations",
		"default/hq/@9":                              "want @TYPE",
		"A/b":                                        "no project's name",
		"hotel":                                      "project hotel: not found",
	} {
		got := ""
		res, err := n.reg.Walk(&pb.WalkRequest{Path: path})
		if err != nil {
			got = err.Error()
			if !strings.Contains(got, want) || want == "" {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
			continue
		}
		for _, x := range []interface{ GetId() string }{res.Zone, res.System, res.Twin} {
			if x.GetId() != "" {
				got += " at " + actors.NameOf(x.GetId())
			}
		}
		add := func(what string, ids ...string) {
			if len(ids) > 0 {
				got += " " + what + " " + strings.ReplaceAll(strings.Join(ids, " "), "default/", "")
			}
		}
		add("zones", idsOf(res.Zones)...)
		add("systems", idsOf(res.Systems)...)
		add("twins", idsOf(res.Twins)...)
		add("from", res.TypesFrom...)
		add("to", res.TypesTo...)
		if got = strings.TrimSpace(got); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func idsOf[M interface{ GetId() string }](all []M) (ids []string) {
	for _, m := range all {
		ids = append(ids, m.GetId())
	}
	return ids
}
