package storage

import (
	"cmp"
	"slices"
	"sync"
)

// sizeStep is how exactly the log's size is known, in bytes.
const sizeStep = 1 << 20

// logSizes knows how many bytes the log's entries have, up to any index, to within sizeStep.
type logSizes struct {
	mu sync.Mutex
	// marks rise by sizeStep at least, but for the last one, which rises with each entry.
	marks []sizeMark
	// before is what was written up to the entry before the first, total up to the last.
	before, total int64
}

// sizeMark: up to the entry at index, so many bytes were written.
type sizeMark struct {
	index uint64
	total int64
}

func byIndex(m sizeMark, index uint64) int { return cmp.Compare(m.index, index) }

// add notes that the log goes on to index, with so many bytes.
func (s *logSizes) add(index uint64, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total += size
	last := sizeMark{index, s.total}
	if n := len(s.marks); n > 0 && s.total-s.upTo(n-1) < sizeStep {
		s.marks[n-1] = last
		return
	}
	s.marks = append(s.marks, last)
}

// upTo is the total of the mark before the n-th.
func (s *logSizes) upTo(n int) int64 {
	if n == 0 {
		return s.before
	}
	return s.marks[n-1].total
}

// begin notes that the log begins at first now; 0: it is empty.
func (s *logSizes) begin(first uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first == 0 {
		s.before, s.marks = s.total, nil
		return
	}
	n, _ := slices.BinarySearchFunc(s.marks, first, byIndex)
	s.before = s.upTo(n)
	s.marks = slices.Delete(s.marks, 0, n)
}

// end notes that the log ends before from: what was behind was replaced.
func (s *logSizes) end(from uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, _ := slices.BinarySearchFunc(s.marks, from, byIndex)
	s.marks = s.marks[:n]
	s.total = s.upTo(n)
}

// all is the size of the whole log, to that of the entries up to index.
func (s *logSizes) sizes(index uint64) (all, to int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, found := slices.BinarySearchFunc(s.marks, index, byIndex)
	if found {
		n++
	}
	return s.total - s.before, s.upTo(n) - s.before
}
