package storage

import (
	"errors"
	"fmt"
	"path"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// stateDB is one incarnation of the state's database. A restored snapshot brings another one; readers of the old one
// finish on it, and the last of them closes it and removes its directory.
type stateDB struct {
	db   *pebble.DB
	fs   vfs.FS
	dir  string
	refs atomic.Int64
	// gathering is what db does not have yet.
	gathering gathering
	// retired: another one has taken the place, the directory goes with the last reader.
	retired atomic.Bool
	closed  chan struct{}
	err     error
}

func openState(o Options, fs vfs.FS, dir string, l *pebbleLogger) (*stateDB, error) {
	cache := pebble.NewCache(o.StateCacheBytes)
	defer cache.Unref()
	opts := &pebble.Options{
		FS:                          fs,
		Cache:                       cache,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      l,
		EventListener:               l.listener(),
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       40,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                1024,
		// The log is raft's: what a crash takes from the write buffers is applied again from there (DESIGN.md).
		DisableWAL:                 true,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
	}
	opts.TargetFileSizes[0] = 4 << 20
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return nil, diskError("open the state", err)
	}
	st := &stateDB{db: db, fs: fs, dir: dir, closed: make(chan struct{})}
	st.refs.Store(1)
	return st, nil
}

func (st *stateDB) release() {
	if st.refs.Add(-1) > 0 {
		return
	}
	st.err = st.db.Close()
	if st.retired.Load() {
		st.err = errors.Join(st.err, st.fs.RemoveAll(st.dir))
	}
	close(st.closed)
}

func readMeta(r pebble.Reader) (meta, error) {
	v, closer, err := r.Get(metaKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return meta{}, nil
	}
	if err != nil {
		return meta{}, fmt.Errorf("read the state's own record: %w", err)
	}
	m, err := decodeMeta(v)
	return m, errors.Join(err, closer.Close())
}

// acquire gives the current state's database, with everything in it that is applied; release it.
func (s *Store) acquire() (*stateDB, error) {
	st, err := s.acquireBehind()
	if err != nil {
		return nil, err
	}
	if err := st.settle(); err != nil {
		st.release()
		return nil, err
	}
	return st, nil
}

// acquireBehind is acquire for who does not mind that the database is behind what is applied.
func (s *Store) acquireBehind() (*stateDB, error) {
	s.stateMu.RLock()
	defer s.stateMu.RUnlock()
	if s.state == nil {
		return nil, ErrClosed
	}
	s.state.refs.Add(1)
	return s.state, nil
}

// The file CURRENT names the directory of the state in use. It is replaced by rename, so that it is always whole.
const currentFile = "CURRENT"

func (s *Store) readCurrent() (string, error) {
	return readSmall(s.fs, path.Join(s.o.Dir, currentFile))
}

func (s *Store) writeCurrent(name string) error {
	return writeSmall(s.fs, s.o.Dir, currentFile, name+"\n")
}
