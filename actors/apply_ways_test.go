package actors_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// An object with nothing in it is there, or is not: a place at 0, 0 is one.
func TestApplySeesEmptyObjects(t *testing.T) {
	n := newNode(t)
	without, with := configs(t, `{"zone":{"id":"z"}}`), configs(t, `{"zone":{"id":"z","place":{}}}`)
	sameLines(t, "new", n.apply(&pb.ApplyRequest{Records: without}), "created zone default/z")
	sameLines(t, "a place", n.apply(&pb.ApplyRequest{Records: with}), "changed zone default/z place:->{}")
	sameLines(t, "again", n.apply(&pb.ApplyRequest{Records: with}), "unchanged zone default/z")
	sameLines(t, "no place", n.apply(&pb.ApplyRequest{Records: without}), "changed zone default/z place:{}->")
}

// A project with as many routes as may be can still be applied, and changed.
func TestApplyOfAllRoutes(t *testing.T) {
	n := newNode(t)
	n.stream("default/out")
	var all []string
	for i := range 200 {
		all = append(all, fmt.Sprintf(`{"route":{"id":"r%03d","topics":["out"]}}`, i))
	}
	n.apply(&pb.ApplyRequest{Records: configs(t, all...)})
	sameLines(t, "again", n.apply(&pb.ApplyRequest{Each: true, Records: configs(t, all[0], strings.Replace(all[7], `"topics"`, `"properties":["p"],"topics"`, 1), strings.Replace(all[0], "r000", "r200", 1))}),
		"unchanged route default/r000", "changed route default/r007", "refused route default/r200 /route/id")
}

// A group makes no more twins than the project's quota allows, and a dry run says so.
func TestApplyMindsTheQuota(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.apply(&pb.ApplyRequest{Records: configs(t, `{"project":{"quotas":{"twins":"3"}}}`)})
	n.twin(`{"id":"old","driver":"probe"}`)
	req := &pb.ApplyRequest{Each: true}
	for _, id := range []string{"a", "old", "b", "c", "d"} {
		req.Records = append(req.Records, configs(t, fmt.Sprintf(`{"twin":{"id":%q,"driver":"probe","labels":{"new":"yes"}}}`, id))...)
	}
	want := []string{"created twin default/a", "changed twin default/old", "created twin default/b", "refused twin default/c : project default has 3 twins of 3", "refused twin default/d"}
	sameLines(t, "tried", n.tried(req.Records), want...)
	sameLines(t, "tried, in two groups", n.tried(req.Records[:3], req.Records[3:]), want...)
	sameLines(t, "done", n.apply(req), want...)
	if c, err := n.reg.CountTwins(); err != nil || c != 3 {
		t.Errorf("%d twins, %v", c, err)
	}
}

// A secret that reads "***" where there is none to keep is refused, and not left out.
func TestApplyOfASecretThatIsNotThere(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	const masked = `{"twin":{"id":"a","driver":"probe","settings":{"secret":"***"}}}`
	sameLines(t, "new", n.apply(&pb.ApplyRequest{Records: configs(t, masked)}), `refused twin default/a /settings/secret: invalid /settings/secret: is "***", and there is none to keep: give it`)
	n.twin(`{"id":"a","driver":"probe"}`)
	sameLines(t, "one without", n.apply(&pb.ApplyRequest{Records: configs(t, masked)}), "refused twin default/a /settings/secret")
	n.apply(&pb.ApplyRequest{Records: configs(t, strings.Replace(masked, "***", "hush", 1))})
	sameLines(t, "one with it", n.apply(&pb.ApplyRequest{Records: configs(t, masked)}), "unchanged twin default/a")
}

// What is applied goes by the models that were applied right before it, also where the watches of records are behind: here they have not begun.
func TestApplyGoesByTheModelsOfNow(t *testing.T) {
	t.Parallel()
	st, err := storagetest.Open("data", vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	n := prepare(t, st, st.Store, cluster.Options{Self: cluster.Member{ID: "n1", Incarnation: 1}})
	for i, kind := range []string{"number", "string", "number"} {
		thing := fmt.Sprintf(`{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"M","properties":{"level":{"type":%q}}}`, kind)
		n.apply(&pb.ApplyRequest{Records: []*pb.ConfigRecord{{Record: &pb.ConfigRecord_Model{Model: &pb.Model{Id: "m", ThingJson: thing}}}}})
		n.apply(&pb.ApplyRequest{Records: configs(t, `{"twin":{"id":"a","model":"m"}}`)})
		want := map[string]string{"number": "created rule", "string": "refused rule"}[kind]
		sameLines(t, kind, n.apply(&pb.ApplyRequest{Records: configs(t,
			fmt.Sprintf(`{"rule":{"id":"r%d","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"if":"value > 1.0","then":[{"stop":true}]}}`, i))}), want)
	}
}

// A dry run commits nothing, not even a key for secrets, and goes on behind a group that is left: what is right in that counts as made, what is wrong not.
func TestDryRunGoesOn(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	before := n.store.Revision()
	req := &pb.DryRunRequest{Project: "default"}
	for _, g := range [][]string{{`{"zone":{"id":"a"}}`, `{"zone":{"id":"b","parent":"nowhere"}}`},
		{`{"twin":{"id":"a","driver":"probe","zone":"a","settings":{"secret":"hush"}}}`}, {`{"twin":{"id":"b","driver":"probe","zone":"b"}}`}} {
		req.Groups = append(req.Groups, &pb.ApplyGroup{Records: configs(t, g...)})
	}
	var all []string
	if err := n.reg.DryRun(ctx(t), req, "me", func(results []*pb.ApplyResult) error {
		all = append(all, applied(results)...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	sameLines(t, "tried", all, "left zone default/a", "refused zone default/b /zone/parent", "created twin default/a", "refused twin default/b /zone: invalid /zone: there is no default/b")
	keys, err := n.store.Count(actors.TableSeals, "")
	if all := n.transactions(before); len(all) > 0 || keys != 0 || err != nil {
		t.Errorf("committed %v, %d keys are there, %v", all, keys, err)
	}
}

// Who asks Apply for a dry run, as it once was, is refused, and nothing is made.
func TestApplyIsNoDryRun(t *testing.T) {
	n := newNode(t)
	_, err := n.reg.Apply(ctx(t), &pb.ApplyRequest{DryRun: true, Records: configs(t, `{"zone":{"id":"z"}}`)}, "ann")
	if !errors.Is(err, actors.ErrInvalid) || !strings.Contains(err.Error(), "/dry_run") {
		t.Errorf("%v", err)
	}
	if all := n.exported("default"); len(all) != 0 {
		t.Errorf("made %q", all)
	}
}
