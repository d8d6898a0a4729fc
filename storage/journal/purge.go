package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/polluxhq/pollux/storage"
)

// Counted are entries, and what they take before compression.
type Counted struct {
	Entries uint64
	Bytes   uint64
	// Oldest and Newest time in milliseconds since 1970; 0 where there is none.
	Oldest, Newest int64
}

func (c *Counted) add(at Position, size int) {
	if c.Entries == 0 {
		c.Oldest = at.Time
	}
	c.Entries++
	c.Bytes += uint64(size)
	c.Newest = at.Time
}

const (
	// purgeBatch is how many entries are deleted at once, and purgeRest the pause after it: reads and the feed go first.
	purgeBatch = 2_000
	purgeRest  = 10 * time.Millisecond
)

// Older counts the entries of a project from before a time, in milliseconds since 1970, that drop says yes to, and deletes
// them where do is set. drop is not given the data. progress, where not nil, is told now and then. It blocks until all is done;
// what it has deleted when ctx ends stays deleted.
func (j *Journal) Older(ctx context.Context, project string, before int64, drop func(e *storage.JournalEntry) bool, do bool, progress func(Counted)) (c Counted, err error) {
	return j.oldest(ctx, project, before, math.MaxUint64, drop, do, progress)
}

// oldest is Older of the first entries only, which together have so many bytes at least.
func (j *Journal) oldest(ctx context.Context, project string, before int64, bytes uint64, drop func(e *storage.JournalEntry) bool, do bool, progress func(Counted)) (c Counted, err error) {
	if err := j.enter(); err != nil {
		return c, err
	}
	defer j.leave()
	prefix := timePrefix(nil, project)
	it, err := j.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: appendPosition(slices.Clone(prefix), Position{before, 0})})
	if err != nil {
		return c, fmt.Errorf("read journal: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	b := j.db.NewBatch()
	defer func() { _ = b.Close() }()
	n := 0
	flush := func() error {
		if n == 0 {
			return nil
		}
		j.unflushed.Add(uint64(b.Len()))
		if err := b.Commit(pebble.NoSync); err != nil {
			return fmt.Errorf("delete from journal: %w", err)
		}
		j.purged.Add(n)
		n = 0
		b.Reset()
		sleep(ctx, purgeRest)
		return nil
	}
	for ok := it.First(); ok && c.Bytes < bytes; ok = it.Next() {
		key := it.Key()
		at, ok := position(key[len(prefix):])
		v, verr := it.ValueAndErr()
		kind, rest, ok1 := cutString(v[min(1, len(v)):])
		name, _, ok2 := cutString(rest)
		if verr != nil || !ok || !ok1 || !ok2 {
			return c, fmt.Errorf("read journal: key %x: %w", key, errors.Join(verr, errDamaged))
		}
		e := storage.JournalEntry{Project: project, Twin: string(key[len(prefix)+16:]), Kind: string(kind), Name: string(name), Time: at.Time, Sequence: at.Sequence}
		if !drop(&e) {
			continue
		}
		main := appendPosition(entryPrefix(nil, project, e.Twin), at)
		size, err := j.sizeOf(main)
		if err != nil {
			return c, err
		}
		c.add(at, size+len(key)+len(v))
		if do {
			if err := errors.Join(b.Delete(key, nil), b.Delete(main, nil)); err != nil {
				return c, err
			}
			n++
		}
		if c.Entries%purgeBatch == 0 {
			if err := flush(); err != nil {
				return c, err
			}
			if progress != nil {
				progress(c)
			}
			if ctx.Err() != nil {
				return c, ctx.Err()
			}
		}
	}
	return c, flush()
}

var errDamaged = errors.New("damaged")

func (j *Journal) sizeOf(key []byte) (int, error) {
	v, closer, err := j.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	defer closer.Close()
	return len(key) + len(v), nil
}

// Usage estimates what a project takes on this node's disk, in bytes, without what is in memory only; see Flush.
func (j *Journal) Usage(project string) (uint64, error) {
	if err := j.enter(); err != nil {
		return 0, err
	}
	defer j.leave()
	var all uint64
	for _, prefix := range projectPrefixes(project) {
		end := slices.Clone(prefix)
		end[len(end)-1] = 1
		n, err := j.db.EstimateDiskUsage(prefix, end)
		if err != nil {
			return 0, fmt.Errorf("measure journal: %w", err)
		}
		all += n
	}
	return all, nil
}

// Projects that have entries, sorted.
func (j *Journal) Projects() (names []string, err error) {
	if err := j.enter(); err != nil {
		return nil, err
	}
	defer j.leave()
	it, err := j.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceTimes}, UpperBound: []byte{spaceTimes + 1}})
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; {
		key := it.Key()
		end := slices.Index(key, 0)
		if end < 1 {
			return names, fmt.Errorf("read journal: key %x: %w", key, errDamaged)
		}
		names = append(names, string(key[1:end]))
		ok = it.SeekGE(append(slices.Clone(key[:end]), 1))
	}
	return names, nil
}
