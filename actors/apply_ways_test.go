package actors_test

import (
	"fmt"
	"strings"
	"testing"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// What is planned counts as there in a dry run only: else a record would name what nobody has made.
func TestPlannedIsForDryRuns(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	req := &pb.ApplyRequest{Planned: []string{"zone/default/hall", "model/default/meter"}, Each: true,
		Records: configs(t, `{"twin":{"id":"a","driver":"probe","zone":"hall"}}`, `{"twin":{"id":"b","model":"meter"}}`, `{"system":{"id":"s","zone":"hall"}}`)}
	sameLines(t, "done", n.apply(req), "refused twin default/a /zone", "refused twin default/b /model", "refused system default/s /system/zone")
	req.DryRun = true
	sameLines(t, "tried", n.apply(req), "created twin default/a", "created twin default/b", "created system default/s")
}

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
	req := &pb.ApplyRequest{Each: true, DryRun: true, Planned: []string{"zone/default/hall"}}
	for _, id := range []string{"a", "old", "b", "c", "d"} {
		req.Records = append(req.Records, configs(t, fmt.Sprintf(`{"twin":{"id":%q,"driver":"probe","labels":{"new":"yes"}}}`, id))...)
	}
	want := []string{"created twin default/a", "changed twin default/old", "created twin default/b", "refused twin default/c : project default has 3 twins of 3", "refused twin default/d"}
	sameLines(t, "tried", n.apply(req), want...)
	req.DryRun = false
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
