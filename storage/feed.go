package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// The feed of samples reads raft's log, up to what is applied here. Which transactions of an entry were accepted is the
// state machine's verdict; it is kept in the state for the entries where not all were, until the cursor passes.
//
// A state that came as a snapshot has no log behind it: the feed starts anew at its index, and history gets what lies
// before from another node.

func (s *Store) loadLocal() error {
	cursor, err := s.log.local(localCursor)
	if err != nil {
		return err
	}
	start, err := s.log.local(localSampleStart)
	if err != nil {
		return err
	}
	journal, err := s.log.local(localJournalCursor)
	if err != nil {
		return err
	}
	s.cursor.Store(cursor)
	s.journalCursor.Store(journal)
	s.sampleStart.Store(start)
	return nil
}

// SampleCursor is the index up to which the reader of the samples has said to be done; 0 at first.
func (s *Store) SampleCursor() uint64 { return s.cursor.Load() }

// SetSampleCursor says that the samples of the entries up to index are where they must be, on the disk. The log is not
// truncated behind it, and they cannot be read again. It is on the disk when the call returns. It never goes back.
func (s *Store) SetSampleCursor(index uint64) error {
	return s.setCursor(&s.cursor, localCursor, index)
}

func (s *Store) setCursor(cursor *atomic.Uint64, name string, index uint64) error {
	s.cursorMu.Lock()
	defer s.cursorMu.Unlock()
	if index <= cursor.Load() {
		return nil
	}
	if applied := s.applied.Load(); index > applied {
		return fmt.Errorf("set %s to %d: only %d is applied", name, index, applied)
	}
	if err := s.log.setLocal(name, index); err != nil {
		return err
	}
	cursor.Store(index)
	return s.forgetRefused(s.read())
}

// read is the index up to which nobody will read the feeds again.
func (s *Store) read() uint64 {
	if !s.o.KeepJournal {
		return s.cursor.Load()
	}
	if s.o.DiscardSamples {
		return s.journalCursor.Load()
	}
	return min(s.cursor.Load(), s.journalCursor.Load())
}

// held says up to where the log's readers let it go.
func (s *Store) held(to uint64) uint64 {
	if s.o.DiscardSamples && !s.o.KeepJournal {
		return to
	}
	return min(to, max(s.read(), s.sampleStart.Load()))
}

// forgetRefused removes the verdicts that no reader of samples needs any more.
func (s *Store) forgetRefused(index uint64) error {
	st, err := s.acquireBehind()
	if err != nil {
		return err
	}
	defer st.release()
	err = st.db.DeleteRange([]byte{keyRefused}, indexKey(keyRefused, index+1), pebble.NoSync)
	if err != nil {
		return fmt.Errorf("forget refused samples: %w", err)
	}
	return nil
}

// ReadSamples gives the accepted samples of the entries behind after, entry by entry in the order of the log, up to
// what is applied here, and returns the index up to which it has read: the after of the next call. Entries without
// samples are passed over. It stops at the first error of fn and returns it with the index before. fn owns the samples.
//
// It returns ErrCompacted, with the after that would do, where after is before the sample cursor, or the state came as
// a snapshot that is newer than after. Who wants to read again after a crash sets the cursor that much later.
func (s *Store) ReadSamples(after uint64, fn func(index uint64, samples []TwinSamples) error) (last uint64, err error) {
	return s.readFeed(after, s.cursor.Load(), func(l *raft.Log, refused *refusedReader, u *sampleReader) error {
		return s.entrySamples(l, refused, u, fn)
	})
}

// feedFn is given one entry of transactions.
type feedFn func(l *raft.Log, refused *refusedReader, u *sampleReader) error

// readFeed goes through the log behind after, for the reader whose cursor is given.
func (s *Store) readFeed(after, cursor uint64, fn feedFn) (last uint64, err error) {
	st, err := s.acquireBehind()
	if err != nil {
		return after, err
	}
	defer st.release()
	// The state first: it is never ahead of the log, and the applied index never ahead of its verdicts, which wait for nothing.
	applied := s.applied.Load()
	if applied <= after {
		return after, nil
	}
	it, err := s.log.db.NewIter(&pebble.IterOptions{LowerBound: indexKey(keyLog, after+1), UpperBound: indexKey(keyLog, applied+1)})
	if err != nil {
		return after, fmt.Errorf("read samples: %w", err)
	}
	// Looked at behind the iterator and the state, so that neither can have lost what it says is there.
	if start := s.firstSample(cursor); after+1 < start {
		err := fmt.Errorf("read samples behind %d, they begin at %d: %w", after, start, ErrCompacted)
		return start - 1, joinClose(err, it)
	}
	last, err = s.eachSamples(it, st.db, after, fn)
	if cerr := it.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("read samples: %w", cerr)
	}
	if err == nil {
		last = applied
	}
	return last, err
}

// firstSample is the first index whose samples this node's log can give to the reader of the cursor.
func (s *Store) firstSample(cursor uint64) uint64 {
	first := s.log.first.Load()
	if first == 0 {
		first = s.applied.Load() + 1
	}
	return max(first, s.sampleStart.Load()+1, cursor+1)
}

func (s *Store) eachSamples(it *pebble.Iterator, state *pebble.DB, after uint64, fn feedFn) (uint64, error) {
	last := after
	var l raft.Log
	u, ok := s.readers.Get().(*sampleReader)
	if !ok {
		u = newSampleReader()
	}
	defer s.readers.Put(u)
	refused, err := readRefused(state, after)
	if err != nil {
		return last, fmt.Errorf("read samples: %w", err)
	}
	defer refused.close()
	for ok := it.First(); ok; ok = it.Next() {
		index := binary.BigEndian.Uint64(it.Key()[1:])
		v, err := it.ValueAndErr()
		if err != nil {
			return last, fmt.Errorf("read samples: %w", err)
		}
		if err := decodeLog(index, v, &l); err != nil {
			return last, fmt.Errorf("read samples: %w", err)
		}
		if l.Type == raft.LogCommand {
			if err := fn(&l, refused, u); err != nil {
				return last, err
			}
		}
		last = index
	}
	return last, nil
}

func (s *Store) entrySamples(l *raft.Log, verdicts *refusedReader, u *sampleReader, fn func(uint64, []TwinSamples) error) error {
	e, err := decodeEntry(l.Data)
	if err != nil {
		return fmt.Errorf("read samples of entry %d: %w", l.Index, err)
	}
	if len(e.samples) == 0 {
		return nil
	}
	refused, err := verdicts.of(l.Index)
	if err != nil {
		return fmt.Errorf("read samples of entry %d: %w", l.Index, err)
	}
	samples, err := u.accepted(e.samples, refused)
	if err != nil {
		return fmt.Errorf("read samples of entry %d: %w", l.Index, err)
	}
	n := 0
	for i := range samples {
		n += len(samples[i].Samples)
	}
	if n == 0 {
		return nil
	}
	s.m.samplesRead.Add(n)
	return fn(l.Index, samples)
}

// refusedReader reads verdicts in the order of the log. There are few, so that one look at the next says of many entries that
// all of theirs was accepted.
type refusedReader struct {
	it   *pebble.Iterator
	next uint64 // the entry of the next verdict; 0: there is none
}

func readRefused(state *pebble.DB, after uint64) (*refusedReader, error) {
	it, err := state.NewIter(&pebble.IterOptions{LowerBound: indexKey(keyRefused, after+1), UpperBound: []byte{keyRefused + 1}})
	if err != nil {
		return nil, err
	}
	r := &refusedReader{it: it}
	if err := r.at(it.First()); err != nil {
		return nil, errors.Join(err, it.Close())
	}
	return r, nil
}

// at notes where the iterator stands.
func (r *refusedReader) at(there bool) error {
	r.next = 0
	if there {
		r.next = binary.BigEndian.Uint64(r.it.Key()[1:])
	}
	return r.it.Error()
}

func (r *refusedReader) close() { _ = r.it.Close() }

// of says which transactions of the entry at index were not accepted, asked in rising order. Entries too are asked for in rising
// order.
func (r *refusedReader) of(index uint64) (func(int) bool, error) {
	for r.next != 0 && r.next < index {
		if err := r.at(r.it.Next()); err != nil {
			return nil, err
		}
	}
	if r.next != index {
		return func(int) bool { return false }, nil
	}
	v, err := r.it.ValueAndErr()
	if err != nil {
		return nil, err
	}
	if len(v) == 0 {
		return func(int) bool { return true }, nil
	}
	res, err := decodeResults(v)
	if err != nil {
		return nil, err
	}
	left := res.refused
	return func(txn int) bool {
		for len(left) > 0 && left[0].txn < txn {
			left = left[1:]
		}
		return len(left) > 0 && left[0].txn == txn
	}, nil
}
