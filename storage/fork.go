package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// maxFork is how much may be committed to a fork, in bytes: a fork is in memory.
const maxFork = 128 << 20

// Fork gives a store that begins as this one is and goes its own way: what is committed to it is read from it alone, and is gone with
// it. So it can be said what would become of transactions. What others commit to this store meanwhile is seen where the fork has written
// nothing itself.
//
// A fork has Get, Scan, Count, Version, Revision and Commit, for one goroutine at a time, and nothing else. Its Commit refuses what the
// store's would, and wraps ErrTooLarge also where the fork would hold more than 128 MiB. Whoever has it releases it, once; Close of this
// store waits for that.
func (s *Store) Fork() (fork *Store, release func() error, err error) {
	st, err := s.acquire()
	if err != nil {
		return nil, nil, err
	}
	fork = &Store{state: st, over: st.db.NewIndexedBatch()}
	fork.revision.Store(s.Revision())
	return fork, func() error {
		defer st.release()
		return fork.over.Close()
	}, nil
}

// reader is where reads look: into the state's database, and before that into what is a fork's own.
func (s *Store) reader(st *stateDB) pebble.Reader {
	if s.over != nil {
		return s.over
	}
	return st.db
}

// commitFork is Commit of a fork.
func (s *Store) commitFork(t *Txn) (revision uint64, err error) {
	var w waiting
	if err := w.encode(t); err != nil {
		return 0, err
	}
	if s.over.Len()+len(w.buf) > maxFork {
		return 0, fmt.Errorf("commit to a fork: it would hold more than %d bytes: %w", maxFork, ErrTooLarge)
	}
	for i, g := range t.Guards {
		rec, ok, err := s.Get(g.Table, g.Key)
		if err != nil {
			return 0, err
		}
		holds := rec.Revision == g.Revision
		if g.Equal != nil {
			holds = ok && bytes.Equal(rec.Value, g.Equal)
		}
		if !holds {
			return 0, &GuardError{Guard: i, Table: g.Table, Key: g.Key, Revision: rec.Revision}
		}
	}
	revision = s.revision.Add(1)
	tables := map[Table]struct{}{}
	for _, x := range t.Writes {
		tables[x.Table] = struct{}{}
		if key := dataKey(x.Table, x.Key); x.Value == nil {
			err = s.over.Delete(key, nil)
		} else {
			err = s.over.Set(key, append(binary.AppendUvarint(nil, revision), x.Value...), nil)
		}
		if err != nil {
			return 0, fmt.Errorf("commit to a fork: %w", err)
		}
	}
	s.versions.wrote(tables)
	return revision, nil
}
