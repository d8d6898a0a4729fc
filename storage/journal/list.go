package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/polluxhq/pollux/storage"
)

// Position of an entry among those of its twin, or of its project.
type Position struct {
	// Time in milliseconds since 1970.
	Time     int64
	Sequence uint64
}

// Less says whether p comes before q.
func (p Position) Less(q Position) bool {
	return p.Time < q.Time || p.Time == q.Time && p.Sequence < q.Sequence
}

// Bounds of List.
const (
	// DefaultLimit and MaxLimit are in entries.
	DefaultLimit = 100
	MaxLimit     = 10_000
	// maxLook is how many entries one List looks at.
	maxLook = 500_000
)

// Query asks for entries.
type Query struct {
	// Project: needed.
	Project string
	// Twin is a name without the project; empty: all of the project.
	Twin string
	// Own: only what is of no twin, which is found without a look at the twins' entries. Twin is empty then.
	Own bool
	// Kinds and Names, where not empty, hold an entry's.
	Kinds, Names []string
	// Start and End bound the time, both included, in milliseconds since 1970. End 0: no bound.
	Start, End int64
	// Newest: from the newest to the oldest; else from the oldest on.
	Newest bool
	// After, where set, goes on behind that entry, in the direction of the list.
	After *Position
	// Limit is the highest number of entries, 0 for DefaultLimit.
	Limit int
	// Look is how many entries are looked at, 0 for 500,000: a filter that fits little ends a page early rather than running long.
	Look int
	// Match, where set, is a further condition; it must not keep the entry.
	Match func(e *storage.JournalEntry) bool
}

// Page is an answer, in the order that was asked for.
type Page struct {
	Entries []storage.JournalEntry
	// Next, where set, is the After of the next page. A page may have fewer entries than the limit, or none, and yet a next.
	Next *Position
}

func (q *Query) check() error {
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	if q.Look == 0 {
		q.Look = maxLook
	}
	if q.End == 0 {
		q.End = math.MaxInt64
	}
	switch {
	case q.Project == "":
		return fmt.Errorf("%w: project is empty", ErrQuery)
	case q.Limit < 0 || q.Limit > MaxLimit:
		return fmt.Errorf("%w: limit %d is not in 1..%d", ErrQuery, q.Limit, MaxLimit)
	case q.Own && q.Twin != "":
		return fmt.Errorf("%w: twin %s in a list of what is of no twin", ErrQuery, q.Twin)
	case q.End < q.Start:
		return fmt.Errorf("%w: end is before start", ErrQuery)
	}
	return nil
}

// List gives a page of entries. It blocks for as long as it reads.
func (j *Journal) List(ctx context.Context, q Query) (Page, error) {
	if err := q.check(); err != nil {
		return Page{}, err
	}
	if err := j.enter(); err != nil {
		return Page{}, err
	}
	defer j.leave()
	var p Page
	looked := 0
	err := j.scan(ctx, &q, func(at Position, e *storage.JournalEntry) bool {
		looked++
		if e != nil && (q.Match == nil || q.Match(e)) {
			if len(p.Entries) == q.Limit {
				last := p.Entries[q.Limit-1]
				p.Next = &Position{last.Time, last.Sequence}
				return false
			}
			p.Entries = append(p.Entries, *e)
		}
		if looked == q.Look {
			p.Next = &at
			return false
		}
		return true
	})
	return p, err
}

// scan calls fn with each entry of the range, nil for those of another kind or name, until it returns false.
func (j *Journal) scan(ctx context.Context, q *Query, fn func(at Position, e *storage.JournalEntry) bool) (err error) {
	prefix := timePrefix(nil, q.Project)
	if q.Twin != "" || q.Own {
		prefix = entryPrefix(nil, q.Project, q.Twin)
	}
	low := appendPosition(slices.Clone(prefix), Position{q.Start, 0})
	high := appendPosition(slices.Clone(prefix), Position{q.End, math.MaxUint64})
	high = append(high, 0xff, 0xff) // behind the twin's name, which is ASCII
	if q.After != nil {
		if from := appendPosition(slices.Clone(prefix), *q.After); q.Newest {
			high = from
		} else {
			low = append(from, 0xff, 0xff)
		}
	}
	it, err := j.db.NewIter(&pebble.IterOptions{LowerBound: low, UpperBound: high})
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	defer func() {
		if cerr := it.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("read journal: %w", cerr)
		}
	}()
	first, next := it.First, it.Next
	if q.Newest {
		first, next = it.Last, it.Prev
	}
	for ok, n := first(), 0; ok; ok, n = next(), n+1 {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		at, e, err := j.entry(q, it, len(prefix))
		if err != nil {
			return err
		}
		if !fn(at, e) {
			break
		}
	}
	return nil
}

// entry at the iterator, nil where the query does not want its kind or name.
func (j *Journal) entry(q *Query, it *pebble.Iterator, prefix int) (Position, *storage.JournalEntry, error) {
	key := it.Key()[prefix:]
	at, ok := position(key)
	v, err := it.ValueAndErr()
	if err != nil {
		return at, nil, fmt.Errorf("read journal: %w", err)
	}
	ofProject := q.Twin == "" && !q.Own
	whole := !ofProject
	if !whole && len(v) > 0 {
		whole, v = v[0] == 1, v[1:]
	}
	kind, rest, ok1 := cutString(v)
	name, data, ok2 := cutString(rest)
	if !ok || !ok1 || !ok2 {
		return at, nil, fmt.Errorf("read journal: key %x: %w", it.Key(), errDamaged)
	}
	if !wanted(q.Kinds, kind) || !wanted(q.Names, name) {
		return at, nil, nil
	}
	e := &storage.JournalEntry{Project: q.Project, Twin: q.Twin, Kind: string(kind), Name: string(name), Time: at.Time, Sequence: at.Sequence}
	if ofProject {
		e.Twin = string(key[16:])
	}
	if !whole { // the data is with the twin
		text, closer, err := j.db.Get(appendPosition(entryPrefix(nil, q.Project, e.Twin), at))
		if errors.Is(err, pebble.ErrNotFound) {
			return at, nil, nil // deleted meanwhile
		}
		if err != nil {
			return at, nil, fmt.Errorf("read journal: %w", err)
		}
		defer closer.Close()
		_, rest, _ = cutString(text)
		_, data, _ = cutString(rest)
	}
	e.Data = slices.Clone(data)
	return at, e, nil
}

func wanted(list []string, word []byte) bool {
	if len(list) == 0 {
		return true
	}
	for _, w := range list {
		if w == string(word) {
			return true
		}
	}
	return false
}

// all calls fn with every entry, which belongs to fn during its call.
func (j *Journal) all(ctx context.Context, fn func(e *storage.JournalEntry) error) (err error) {
	it, err := j.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceEntries}, UpperBound: []byte{spaceEntries + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		e, ok := parse(it.Key(), v)
		if !ok {
			return fmt.Errorf("key %x: %w", it.Key(), errDamaged)
		}
		if err := fn(&e); err != nil {
			return err
		}
	}
	return nil
}

// parse reads a whole entry; its data is that of v.
func parse(key, v []byte) (e storage.JournalEntry, ok bool) {
	project := slices.Index(key, 0)
	if project < 1 {
		return e, false
	}
	twin := slices.Index(key[project+1:], 0)
	if twin < 0 {
		return e, false
	}
	twin += project + 1
	at, ok := position(key[twin+1:])
	kind, rest, ok1 := cutString(v)
	name, data, ok2 := cutString(rest)
	return storage.JournalEntry{Project: string(key[1:project]), Twin: string(key[project+1 : twin]), Kind: string(kind), Name: string(name),
		Time: at.Time, Sequence: at.Sequence, Data: data}, ok && ok1 && ok2
}
