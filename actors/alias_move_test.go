package actors_test

import (
	"testing"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// An alias goes from one twin to another in one transaction: whoever sends under it never finds nobody, and no crash leaves it to nobody.
func TestAliasGoesOverAtOnce(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe","settings":{"secret":"hush"},"aliases":[{"network":"n","key":"k","value":"1"},{"network":"n","key":"k","value":"2"}]}`)
	n.twin(`{"id":"b","driver":"probe","aliases":[{"network":"n","key":"k","value":"3"}]}`)
	named := &pb.NamedAlias{Alias: &pb.Alias{Network: "n", Key: "k", Value: "1"}, Twin: "b"}
	for range 2 { // the second time it is there already
		m, err := n.reg.UpdateAlias(ctx(t), "default", named)
		if err != nil || m.Twin != "default/b" {
			t.Fatalf("%v, %v", m, err)
		}
		a, err := n.reg.GetTwin("a")
		if err != nil {
			t.Fatal(err)
		}
		b, err := n.reg.GetTwin("b")
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Aliases) != 1 || len(b.Aliases) != 2 || a.Settings.Fields["secret"].GetStringValue() != "***" {
			t.Errorf("%v, %v", a, b)
		}
		if a.Revision != m.Revision || b.Revision != m.Revision {
			t.Errorf("taken in %d, given in %d, the alias changed in %d", a.Revision, b.Revision, m.Revision)
		}
	}
	named.Twin = "nobody"
	if m, err := n.reg.UpdateAlias(ctx(t), "default", named); err == nil {
		t.Errorf("%v", m)
	}
	if m, err := n.reg.Alias("default", named.Alias); err != nil || m.Twin != "default/b" {
		t.Errorf("%v, %v", m, err)
	}
}
