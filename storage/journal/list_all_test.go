package journal_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage/journal"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// TestListAll: pages of all projects together are one list in the order of time, each entry once, whatever is asked for.
func TestListAll(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem(), keeping()...)
	j := open(t, t.TempDir(), nil)
	follow(t, j, s)
	if p, err := j.ListAll(t.Context(), journal.Query{Newest: true}); err != nil || len(p.Entries) != 0 || p.Next != nil {
		t.Fatalf("of nothing: %+v, %v", p, err)
	}
	r := rand.New(rand.NewPCG(7, 3))
	projects := []string{"a", "a-b", "b", "quiet", "z"}
	for n := range 300 {
		project := projects[r.IntN(3)]
		if n%100 == 50 {
			project = "quiet"
		}
		e := event([]string{"", "x", "y"}[r.IntN(3)], 1000+int64(r.IntN(80)), fmt.Sprint("e", r.IntN(20)))
		e.Project = project
		commit(t, s, e)
	}
	j.CatchUp(t.Context(), 30*time.Second)
	type key struct {
		project string
		at      journal.Position
	}
	for range 150 {
		q := journal.Query{Newest: r.IntN(2) == 0, Limit: 1 + r.IntN(40), Look: 1 + r.IntN(60)}
		if r.IntN(2) == 0 {
			q.Names = []string{"e3", "e4"}[:1+r.IntN(2)]
		}
		if r.IntN(2) == 0 {
			q.Start, q.End = 1000+int64(r.IntN(50)), 1050+int64(r.IntN(40))
		}
		var want, got []key
		for _, p := range projects {
			one := q
			one.Project, one.Look = p, 0
			for _, e := range list(t, j, one) {
				want = append(want, key{p, journal.Position{Time: e.Time, Sequence: e.Sequence}})
			}
		}
		slices.SortFunc(want, func(a, b key) int {
			if a.at.Less(b.at) != q.Newest {
				return -1
			}
			return 1
		})
		for page := q; ; {
			p, err := j.ListAll(t.Context(), page)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Entries) > q.Limit {
				t.Fatalf("a page of %d, %d were asked for", len(p.Entries), q.Limit)
			}
			for _, e := range p.Entries {
				got = append(got, key{e.Project, journal.Position{Time: e.Time, Sequence: e.Sequence}})
			}
			if page.After = p.Next; page.After == nil {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%+v:\ngot  %v\nwant %v", q, got, want)
		}
	}
	if _, err := j.ListAll(t.Context(), journal.Query{Project: "a"}); err == nil {
		t.Error("a list of all projects took a project")
	}
}
