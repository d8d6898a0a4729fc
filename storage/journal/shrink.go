package journal

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/polluxhq/pollux/storage"
)

// shrinkTo is the part of a bound that is left, so that not each new entry deletes an old one.
const shrinkTo = 0.9

// Shrink deletes the oldest entries of a project where it takes more than most bytes of this node's disk, until it takes a tenth less, and
// has the disk freed. It blocks until that is done.
func (j *Journal) Shrink(ctx context.Context, project string, most uint64) (c Counted, err error) {
	if err := j.Flush(0); err != nil {
		return c, err
	}
	used, err := j.Usage(project)
	if err != nil || used <= most {
		return c, err
	}
	each := func(*storage.JournalEntry) bool { return true }
	all, err := j.Older(ctx, project, math.MaxInt64, each, false, nil)
	if err != nil {
		return c, err
	}
	// Entries are smaller on the disk than in themselves: the same part of both goes.
	excess := float64(all.Bytes) * (1 - shrinkTo*float64(most)/float64(used))
	c, err = j.oldest(ctx, project, math.MaxInt64, uint64(math.Ceil(excess)), each, true, nil)
	if err != nil {
		return c, err
	}
	return c, j.compact(ctx, project)
}

// Flush brings to the disk's tables what is in memory, so that Usage counts it, where that is more than some bytes.
func (j *Journal) Flush(above uint64) error {
	if err := j.enter(); err != nil {
		return err
	}
	defer j.leave()
	if j.unflushed.Load() <= above {
		return nil
	}
	j.unflushed.Store(0)
	if err := j.db.Flush(); err != nil {
		return fmt.Errorf("flush journal: %w", err)
	}
	return nil
}

// compact frees what the deleted entries of a project take on the disk.
func (j *Journal) compact(ctx context.Context, project string) error {
	if err := j.enter(); err != nil {
		return err
	}
	defer j.leave()
	for _, prefix := range projectPrefixes(project) {
		end := slices.Clone(prefix)
		end[len(end)-1] = 1
		if err := j.db.Compact(ctx, prefix, end, false); err != nil {
			return fmt.Errorf("free the journal's disk: %w", err)
		}
	}
	return nil
}

// projectPrefixes are the beginnings of a project's keys; each ends with a zero.
func projectPrefixes(project string) [][]byte {
	return [][]byte{timePrefix(nil, project), append(append([]byte{spaceEntries}, project...), 0)}
}
