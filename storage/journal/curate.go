package journal

import (
	"context"
	"time"

	"github.com/polluxhq/pollux/storage"
)

// Rule says how long entries of a kind, or of a kind and a name, are kept. An empty kind is every kind.
type Rule struct {
	Kind, Name string
	MaxAge     time.Duration
}

// Rules of a project. The closest that fits counts: kind and name, kind, neither.
type Rules struct {
	List []Rule
	// Default is for what no rule fits; nothing is kept longer.
	Default time.Duration
}

// age is how long an entry is kept.
func (r *Rules) age(kind, name string) time.Duration {
	best, age := -1, r.Default
	for _, x := range r.List {
		fit := 0
		switch {
		case x.Kind != "" && x.Kind != kind, x.Name != "" && x.Name != name:
			continue
		case x.Name != "":
			fit = 2
		case x.Kind != "":
			fit = 1
		}
		if fit > best {
			best, age = fit, x.MaxAge
		}
	}
	return min(age, r.Default)
}

// shortest age of any entry.
func (r *Rules) shortest() time.Duration {
	age := r.Default
	for _, x := range r.List {
		age = min(age, x.MaxAge)
	}
	return age
}

// Expired counts the entries of a project that its rules let go at a time, by kind too, and deletes them where do is set.
func (j *Journal) Expired(ctx context.Context, project string, rules Rules, now time.Time, do bool) (c Counted, kinds map[string]uint64, err error) {
	kinds = map[string]uint64{}
	c, err = j.Older(ctx, project, now.Add(-rules.shortest()).UnixMilli(), func(e *storage.JournalEntry) bool {
		if e.Time >= now.Add(-rules.age(e.Kind, e.Name)).UnixMilli() {
			return false
		}
		kinds[e.Kind]++
		return true
	}, do, func(c Counted) {
		j.o.Logger.Info("journal is curated", "project", project, "deleted_entries", c.Entries)
	})
	return c, kinds, err
}
