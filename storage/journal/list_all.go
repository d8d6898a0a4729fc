package journal

import (
	"context"
	"fmt"
	"slices"

	"github.com/polluxhq/pollux/storage"
)

// ListAll gives a page of the entries of all projects together, in the order of their positions. The query names no project and no
// twin. A project's entries are looked at only as far as the others' leave room, and so many in all as List looks at.
func (j *Journal) ListAll(ctx context.Context, q Query) (Page, error) {
	if q.Project != "" || q.Twin != "" {
		return Page{}, fmt.Errorf("%w: project %q, twin %q in a list of all projects", ErrQuery, q.Project, q.Twin)
	}
	names, err := j.Projects()
	if err != nil {
		return Page{}, err
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	if q.Look == 0 {
		q.Look = maxLook
	}
	q.Look = max(q.Look/max(len(names), 1), 1)
	var all Page
	for _, q.Project = range names {
		p, err := j.List(ctx, q)
		if err != nil {
			return Page{}, err
		}
		// Behind where one project was left there may be more of it.
		if p.Next != nil && (all.Next == nil || q.before(*p.Next, *all.Next)) {
			all.Next = p.Next
		}
		all.Entries = append(all.Entries, p.Entries...)
		q.cut(&all)
	}
	return all, nil
}

// before says whether a position comes before another one in the direction of the list.
func (q *Query) before(a, b Position) bool {
	if q.Newest {
		return b.Less(a)
	}
	return a.Less(b)
}

// cut sorts a page's entries, and takes away those behind where it goes on, and behind its limit. What is further than that need not be
// looked at any more.
func (q *Query) cut(p *Page) {
	slices.SortFunc(p.Entries, func(a, b storage.JournalEntry) int {
		switch at, bt := (Position{a.Time, a.Sequence}), (Position{b.Time, b.Sequence}); {
		case q.before(at, bt):
			return -1
		case q.before(bt, at):
			return 1
		}
		return 0
	})
	if p.Next != nil {
		end := slices.IndexFunc(p.Entries, func(e storage.JournalEntry) bool { return q.before(*p.Next, Position{e.Time, e.Sequence}) })
		if end >= 0 {
			p.Entries = p.Entries[:end]
		}
	}
	if len(p.Entries) > q.Limit {
		last := p.Entries[q.Limit-1]
		p.Entries, p.Next = p.Entries[:q.Limit], &Position{last.Time, last.Sequence}
	}
	if p.Next != nil {
		if q.Newest {
			q.Start = max(q.Start, p.Next.Time)
		} else if q.End == 0 || p.Next.Time < q.End {
			q.End = p.Next.Time
		}
	}
}
