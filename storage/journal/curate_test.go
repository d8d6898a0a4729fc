package journal_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/journal"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// goes says whether rules let an entry go.
func goes(rules journal.Rules, e *storage.JournalEntry, now time.Time) bool {
	age := rules.Default
	for _, want := range [][2]string{{"", ""}, {e.Kind, ""}, {e.Kind, e.Name}} {
		for _, r := range rules.List {
			if r.Kind == want[0] && r.Name == want[1] {
				age = r.MaxAge
			}
		}
	}
	return e.Time < now.Add(-min(age, rules.Default)).UnixMilli()
}

// TestExpiredAgainstAModel: random rules let go what was said before, which is what a plain model of the rules says, and nothing else, of no
// other project either.
func TestExpiredAgainstAModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	s := storagetest.OpenSingle(t, "store", vfs.NewMem(), keeping()...)
	j := open(t, t.TempDir(), nil)
	follow(t, j, s)
	now := time.Now()
	projects := []string{"house", "housing", "h"}
	left := map[string][]storage.JournalEntry{}
	for round := range 30 {
		var entries []storage.JournalEntry
		for range 200 {
			kind := pick("event", "value", "quota", "command")
			at := now.UnixMilli() - r.Int64N(100*24*3600_000)
			if r.IntN(20) == 0 {
				at = -at // before 1970
			}
			entries = append(entries, storage.JournalEntry{Project: pick(projects...), Twin: pick("", "a", "b", "a.b"), Kind: kind, Name: pick("", "door", "event", "value"), Time: at,
				Data: fmt.Appendf(nil, `"%0*d"`, r.IntN(600), r.Uint64())})
		}
		commit(t, s, entries...)
		for _, p := range projects {
			left[p] = list(t, j, journal.Query{Project: p, Start: -1 << 60, Limit: 1000})
		}
		rules := journal.Rules{Default: time.Duration(1+r.IntN(100)) * 24 * time.Hour}
		for range r.IntN(6) {
			x := journal.Rule{Kind: pick("", "event", "value", "quota"), MaxAge: time.Duration(1 + r.Int64N(int64(110*24*time.Hour)))}
			if x.Kind != "" && r.IntN(2) == 0 {
				x.Name = pick("door", "event", "value")
			}
			if !slices.ContainsFunc(rules.List, func(o journal.Rule) bool { return o.Kind == x.Kind && o.Name == x.Name }) {
				rules.List = append(rules.List, x)
			}
		}
		project, kinds, n := pick(projects...), map[string]uint64{}, uint64(0)
		stays := slices.DeleteFunc(slices.Clone(left[project]), func(e storage.JournalEntry) bool {
			out := goes(rules, &e, now)
			if out {
				kinds[e.Kind]++
				n++
			}
			return out
		})
		would, kindsSaid, err := j.Expired(t.Context(), project, rules, now, false)
		if err != nil || would.Entries != n || !maps.Equal(kindsSaid, kinds) {
			t.Fatalf("round %d, %+v: it would let go %+v %v, want %d %v: %v", round, rules, would, kindsSaid, n, kinds, err)
		}
		did, _, err := j.Expired(t.Context(), project, rules, now, true)
		if err != nil || did != would {
			t.Fatalf("round %d: it did %+v, and said %+v: %v", round, did, would, err)
		}
		left[project] = stays
		for _, p := range projects {
			got := list(t, j, journal.Query{Project: p, Start: -1 << 60, Limit: 1000})
			if !slices.EqualFunc(got, left[p], func(a, b storage.JournalEntry) bool {
				return a.Sequence == b.Sequence && string(a.Data) == string(b.Data)
			}) {
				t.Fatalf("round %d, %+v: %d entries of %s are left, want %d", round, rules, len(got), p, len(left[p]))
			}
			byTwin := 0
			for _, twin := range []string{"a", "b", "a.b"} {
				byTwin += len(list(t, j, journal.Query{Project: p, Twin: twin, Start: -1 << 60, Limit: 1000}))
			}
			if of := slices.DeleteFunc(slices.Clone(got), func(e storage.JournalEntry) bool { return e.Twin == "" }); byTwin != len(of) {
				t.Fatalf("round %d: twins of %s have %d entries, the project %d", round, p, byTwin, len(of))
			}
		}
	}
}
