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

// CurateEvery is how often a node deletes what its rules let go.
const CurateEvery = 10 * time.Minute

// Curate deletes what the rules let go, soon and then every so often, until ctx ends. Each node does so with its own journal: a
// deletion needs no agreement, since it follows from the committed rules and the entry's time.
func (j *Journal) Curate(ctx context.Context, every time.Duration, rules func(project string) (Rules, error)) {
	for sleep(ctx, min(every, time.Minute)); ctx.Err() == nil; sleep(ctx, every) {
		if err := j.curate(ctx, rules); err != nil && ctx.Err() == nil {
			j.o.Metrics.GetOrCreateCounter("pollux_journal_curate_errors_total").Inc()
			j.o.Logger.Warn("journal is not curated", "error", err)
		}
	}
}

func (j *Journal) curate(ctx context.Context, rules func(project string) (Rules, error)) error {
	projects, err := j.Projects()
	if err != nil {
		return err
	}
	for _, project := range projects {
		r, err := rules(project)
		if err != nil {
			return err
		}
		c, _, err := j.Expired(ctx, project, r, time.Now(), true)
		if err != nil {
			return err
		}
		if c.Entries > 0 {
			j.o.Logger.Info("old journal entries are deleted", "project", project, "entries", c.Entries, "bytes", c.Bytes)
		}
	}
	return nil
}
