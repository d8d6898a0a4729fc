package actors_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// configs reads ConfigRecords, one per line of JSON.
func configs(t testing.TB, lines ...string) []*pb.ConfigRecord {
	t.Helper()
	var all []*pb.ConfigRecord
	for _, l := range lines {
		rec := &pb.ConfigRecord{}
		if err := protojson.Unmarshal([]byte(l), rec); err != nil {
			t.Fatal(err)
		}
		all = append(all, rec)
	}
	return all
}

// apply gives the results, one per line: outcome, kind, id, what changed, what was wrong.
func (n *node) apply(req *pb.ApplyRequest) []string {
	n.t.Helper()
	if req.Project == "" {
		req.Project = "default"
	}
	results, err := n.reg.Apply(ctx(n.t), req, "me")
	if err != nil {
		n.t.Fatal(err)
	}
	return applied(results)
}

// tried gives the results of a dry run of groups, each record for itself, as apply does.
func (n *node) tried(groups ...[]*pb.ConfigRecord) (all []string) {
	n.t.Helper()
	req := &pb.DryRunRequest{Project: "default", Each: true}
	for _, g := range groups {
		req.Groups = append(req.Groups, &pb.ApplyGroup{Records: g})
	}
	if err := n.reg.DryRun(ctx(n.t), req, "me", func(results []*pb.ApplyResult) error {
		all = append(all, applied(results)...)
		return nil
	}); err != nil {
		n.t.Fatal(err)
	}
	return all
}

func applied(results []*pb.ApplyResult) (all []string) {
	for _, x := range results {
		line := strings.ToLower(strings.TrimPrefix(x.Outcome.String(), "APPLY_OUTCOME_")) + " " + x.Kind + " " + x.Id
		if x.Outcome == pb.ApplyOutcome_APPLY_OUTCOME_CHANGED {
			for _, c := range x.Changes {
				line += fmt.Sprintf(" %s:%s->%s", c.Field, c.Old, c.New)
			}
		}
		if x.Error != "" {
			line += " " + x.Path + ": " + x.Error
		}
		all = append(all, line)
	}
	return all
}

func sameLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %q, want %q", what, got, want)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%s: %q, want %q", what, got[i], want[i])
		}
	}
}

func TestApply(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	zones := configs(t, `{"zone":{"id":"hq","kind":"building"}}`)
	rooms := configs(t, `{"zone":{"id":"aula","parent":"hq","title":"Aula"}}`)
	twins := configs(t, `{"twin":{"id":"a","driver":"probe","zone":"aula","labels":{"floor":"1"},"settings":{"poll":500,"secret":"hush"},"aliases":[{"network":"n","key":"k","value":"1"}]}}`,
		`{"twin":{"id":"b","driver":"probe"}}`)
	systems := configs(t, `{"system":{"id":"room","zone":"aula","members":[{"name":"X_1","twin":"a"}]}}`)

	// What groups before it would make counts in a dry run, and nothing is committed.
	sameLines(t, "dry run", n.tried(zones, rooms, twins, systems),
		"created zone default/hq", "created zone default/aula", "created twin default/a", "created twin default/b", "created system default/room")
	sameLines(t, "dry run of a part", n.tried(twins, systems), "refused twin default/a /zone", "created twin default/b", "refused system default/room")
	if c, err := n.reg.CountTwins(); c != 0 || err != nil {
		t.Fatalf("a dry run made %d twins, %v", c, err)
	}

	// One that is wrong holds up its group.
	sameLines(t, "no zone", n.apply(&pb.ApplyRequest{Records: twins}),
		"refused twin default/a /zone: invalid /zone: there is no default/aula", "left twin default/b")
	for _, group := range [][]*pb.ConfigRecord{zones, rooms, twins, systems} {
		for _, line := range n.apply(&pb.ApplyRequest{Records: group}) {
			if !strings.HasPrefix(line, "created ") {
				t.Fatal(line)
			}
		}
	}
	if tw, err := n.reg.GetTwin("a"); err != nil || tw.UpdateBy != "me" || tw.Zone != "default/aula" {
		t.Errorf("%v, %v", tw, err)
	}
	n.must("a", "count", "")

	// Again: nothing. Something else: that, and a secret only as that it changes.
	for _, group := range [][]*pb.ConfigRecord{zones, rooms, twins, systems} {
		for _, line := range n.apply(&pb.ApplyRequest{Records: group}) {
			if !strings.HasPrefix(line, "unchanged ") {
				t.Error(line)
			}
		}
	}
	before := n.store.Revision()
	sameLines(t, "changed", n.apply(&pb.ApplyRequest{Records: configs(t,
		`{"twin":{"id":"a","driver":"probe","zone":"aula","labels":{"floor":"2"},"settings":{"poll":600,"secret":"***"},"aliases":[{"network":"n","key":"k","value":"1"}]}}`,
		`{"twin":{"id":"b","driver":"probe","settings":{"secret":"x"}}}`)}),
		`changed twin default/a labels.floor:"1"->"2" settings.poll:500->600`, `changed twin default/b settings.secret:->"***"`)
	if all := n.transactions(before); len(all) != 1 {
		t.Errorf("transactions for a group: %v", all)
	}
	sameLines(t, "another secret", n.apply(&pb.ApplyRequest{Records: configs(t, `{"twin":{"id":"b","driver":"probe","settings":{"secret":"y"}}}`)}),
		`changed twin default/b settings.secret:"***"->"***"`)

	// What is wrong with one is no matter of the others where each is for itself.
	sameLines(t, "each", n.apply(&pb.ApplyRequest{Each: true, Records: configs(t,
		`{"twin":{"id":"c","driver":"probe","aliases":[{"network":"n","key":"k","value":"1"}]}}`,
		`{"twin":{"id":"d","driver":"probe","aliases":[{"network":"n","key":"k","value":"2"}]}}`,
		`{"twin":{"id":"e","driver":"probe","aliases":[{"network":"n","key":"k","value":"2"}]}}`,
		`{"twin":{"id":"d","driver":"probe"}}`,
		`{"twin":{"id":"other/f","driver":"probe"}}`,
		`{"twin":{"id":"g","driver":"nope"}}`)}),
		"refused twin default/c : alias default/n/k/1: already exists", "created twin default/d",
		"refused twin default/e : alias default/n/k/2: another twin of the group has it",
		"refused twin default/d /id: invalid /id: twin default/d is there twice",
		"refused twin other/f /id: invalid /id: other/f is in another project than default",
		"refused twin default/g /driver")
}

func TestApplyModels(t *testing.T) {
	n := newNode(t)
	const thing = `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Meter","properties":{"power":{"type":"number"}}}`
	one := func(thing string) []*pb.ConfigRecord {
		return []*pb.ConfigRecord{{Record: &pb.ConfigRecord_Model{Model: &pb.Model{Id: "meter", ThingJson: thing}}}}
	}
	twin := configs(t, `{"twin":{"id":"m1","model":"meter"}}`)
	sameLines(t, "dry run", n.tried(one(thing), twin), "created model default/meter", "created twin default/m1")
	sameLines(t, "no model", n.apply(&pb.ApplyRequest{Records: twin}), "refused twin default/m1")
	sameLines(t, "no JSON", n.apply(&pb.ApplyRequest{Records: one("{")}), "refused model default/meter /thing_json")
	sameLines(t, "new", n.apply(&pb.ApplyRequest{Records: one(thing)}), "created model default/meter")
	sameLines(t, "its twin", n.apply(&pb.ApplyRequest{Records: twin}), "created twin default/m1")
	sameLines(t, "laid out otherwise", n.apply(&pb.ApplyRequest{Records: one(strings.ReplaceAll(thing, ",", ", "))}), "unchanged model default/meter")
	sameLines(t, "another", n.apply(&pb.ApplyRequest{Records: one(strings.ReplaceAll(thing, "power", "energy"))}), "changed model default/meter thing_json")
	sameLines(t, "its twin", n.apply(&pb.ApplyRequest{Records: twin}), "unchanged twin default/m1")
}

// What is exported can be applied elsewhere: parents before children, gateways before those behind them.
func TestExport(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	for _, z := range []string{`{"zone":{"id":"z"}}`, `{"zone":{"id":"m","parent":"z"}}`, `{"zone":{"id":"a","parent":"m"}}`} {
		n.apply(&pb.ApplyRequest{Records: configs(t, z)})
	}
	for _, d := range []string{`{"twin":{"id":"z","driver":"probe"}}`, `{"twin":{"id":"m","driver":"probe","via":"z"}}`,
		`{"twin":{"id":"a","driver":"probe","via":"m","settings":{"secret":"hush"}}}`, `{"twin":{"id":"b","driver":"probe","via":"z"}}`} {
		n.apply(&pb.ApplyRequest{Records: configs(t, d)})
	}
	n.apply(&pb.ApplyRequest{Records: configs(t, `{"system":{"id":"s","members":[{"name":"X","twin":"a"}]}}`)})
	var names, all []string
	err := n.reg.Export(ctx(t), "default", func(page []*pb.ConfigRecord) error {
		for _, rec := range page {
			names = append(names, fmt.Sprintf("%s%s%s", rec.GetZone().GetId(), rec.GetTwin().GetId(), rec.GetSystem().GetId()))
			text, err := protojson.Marshal(rec)
			if err != nil {
				return err
			}
			all = append(all, string(text))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(names, " "); got != "default/z default/m default/a default/z default/b default/m default/a default/s" &&
		got != "default/z default/m default/a default/z default/m default/b default/a default/s" {
		t.Errorf("order %s", got)
	}
	for _, line := range all {
		sameLines(t, line, n.apply(&pb.ApplyRequest{Records: configs(t, line)}), "unchanged")
		if strings.Contains(line, "hush") {
			t.Error(line)
		}
	}
}

// transactions gives what was committed after a revision and is there: by the transaction's revision the tables and keys. Leases are left out, which
// are renewed all the time.
func (n *node) transactions(after uint64) map[uint64][]string {
	n.t.Helper()
	v := n.store.View()
	defer v.Close()
	tables, err := v.Tables()
	if err != nil {
		n.t.Fatal(err)
	}
	all := map[uint64][]string{}
	for _, table := range tables {
		if table == "lease" {
			continue
		}
		for rec, err := range v.Scan(table, "", "") {
			if err != nil {
				n.t.Fatal(err)
			}
			if rec.Revision > after {
				all[rec.Revision] = append(all[rec.Revision], fmt.Sprintf("%s %s", table, rec.Key))
			}
		}
	}
	return all
}
