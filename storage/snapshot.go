package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// A snapshot is a directory under snapshots/: a Pebble checkpoint of the state (hard links, so that it costs no copy) and
// meta.json, which is written last. It becomes a stream of bytes only on its way to another node.
const (
	snapshotState = "state"
	snapshotMeta  = "meta.json"
	tempSuffix    = ".tmp"
)

// snapshotInfo is meta.json.
type snapshotInfo struct {
	Version int               `json:"version"`
	Meta    raft.SnapshotMeta `json:"meta"`
	// Applied is the index that the state itself has; it may be above Meta.Index.
	Applied uint64 `json:"applied"`
}

// snapshotStore implements raft.SnapshotStore.
type snapshotStore struct {
	s   *Store
	fs  vfs.FS
	dir string

	mu  sync.Mutex     // guards all against sinks that finish
	all []snapshotInfo // newest first
}

var _ raft.SnapshotStore = (*snapshotStore)(nil)

// openSnapshots lists what is whole and removes the rest.
func openSnapshots(s *Store) (*snapshotStore, error) {
	st := &snapshotStore{s: s, fs: s.fs, dir: path.Join(s.o.Dir, snapshotsDir)}
	names, err := st.fs.List(st.dir)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	for _, name := range names {
		b, err := readFile(st.fs, path.Join(st.dir, name, snapshotMeta), 1<<20)
		var info snapshotInfo
		if strings.HasSuffix(name, tempSuffix) || errors.Is(err, errNoFile) {
			if err := st.fs.RemoveAll(path.Join(st.dir, name)); err != nil {
				return nil, fmt.Errorf("remove an unfinished snapshot: %w", err)
			}
			continue
		}
		if err == nil {
			err = json.Unmarshal(b, &info)
		}
		if err != nil {
			return nil, fmt.Errorf("read snapshot %s: %w", name, err)
		}
		st.all = append(st.all, info)
	}
	st.order()
	return st, nil
}

func (st *snapshotStore) order() {
	sort.Slice(st.all, func(i, j int) bool {
		a, b := st.all[i].Meta, st.all[j].Meta
		if a.Term != b.Term {
			return a.Term > b.Term
		}
		if a.Index != b.Index {
			return a.Index > b.Index
		}
		return a.ID > b.ID
	})
}

func (st *snapshotStore) newestIndex() uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.all) == 0 {
		return 0
	}
	return st.all[0].Meta.Index
}

// List implements raft.SnapshotStore.
func (st *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	out := make([]*raft.SnapshotMeta, len(st.all))
	for i := range st.all {
		m := st.all[i].Meta
		out[i] = &m
	}
	return out, nil
}

// Create implements raft.SnapshotStore.
func (st *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration,
	configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("create snapshot: version %d is not supported", version)
	}
	id := fmt.Sprintf("%d-%d-%d", term, index, time.Now().UnixMilli())
	k := &snapshotSink{st: st, temp: path.Join(st.dir, id+tempSuffix)}
	k.info = snapshotInfo{Version: 1, Meta: raft.SnapshotMeta{Version: version, ID: id, Index: index, Term: term,
		Configuration: c, ConfigurationIndex: configurationIndex}}
	if err := st.fs.RemoveAll(k.temp); err != nil {
		return nil, fmt.Errorf("create snapshot: %w", err)
	}
	if err := st.fs.MkdirAll(k.temp, 0o700); err != nil {
		return nil, diskError("create snapshot", err)
	}
	return k, nil
}

// Open implements raft.SnapshotStore.
func (st *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for i := range st.all {
		if st.all[i].Meta.ID == id {
			r, err := st.openStream(id)
			if err != nil {
				return nil, nil, fmt.Errorf("open snapshot %s: %w", id, err)
			}
			m := st.all[i].Meta
			return &m, r, nil
		}
	}
	return nil, nil, fmt.Errorf("open snapshot %s: there is none", id)
}

func (st *snapshotStore) stateDir(id string) string { return path.Join(st.dir, id, snapshotState) }

// openStream makes a snapshot a stream. Its files are open from the start, so that the snapshot may be removed meanwhile.
func (st *snapshotStore) openStream(id string) (*snapshotReader, error) {
	return newSnapshotReader(st.fs, st.stateDir(id))
}

// added lists a finished snapshot and removes those too many.
func (st *snapshotStore) added(info snapshotInfo) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.all = append(st.all, info)
	st.order()
	for len(st.all) > st.s.o.KeepSnapshots {
		old := st.all[len(st.all)-1]
		st.all = st.all[:len(st.all)-1]
		if err := st.fs.RemoveAll(path.Join(st.dir, old.Meta.ID)); err != nil {
			st.s.o.Logger.Warn("an old snapshot stays", "id", old.Meta.ID, "error", err)
		}
	}
}

// snapshotSink implements raft.SnapshotSink. Either the state machine puts a checkpoint into it, or raft writes the
// stream that another node's snapshot was.
type snapshotSink struct {
	st   *snapshotStore
	temp string
	info snapshotInfo

	whole  bool // a checkpoint is in it
	stream *snapshotWriter
	over   bool
}

// ID implements raft.SnapshotSink.
func (k *snapshotSink) ID() string { return k.info.Meta.ID }

// Write implements io.Writer.
func (k *snapshotSink) Write(p []byte) (int, error) {
	if k.stream == nil {
		dir := path.Join(k.temp, snapshotState)
		if err := k.st.fs.MkdirAll(dir, 0o700); err != nil {
			return 0, diskError("receive snapshot", err)
		}
		k.stream = newSnapshotWriter(k.st.fs, dir)
	}
	n, err := k.stream.Write(p)
	if err != nil {
		return n, fmt.Errorf("receive snapshot: %w", err)
	}
	return n, nil
}

// Cancel implements raft.SnapshotSink.
func (k *snapshotSink) Cancel() error {
	if k.over {
		return nil
	}
	k.over = true
	if k.stream != nil {
		k.stream.abort()
	}
	return k.st.fs.RemoveAll(k.temp)
}

// Close implements raft.SnapshotSink. The snapshot is on the disk, whole, when it returns nil.
func (k *snapshotSink) Close() error {
	if k.over {
		return nil
	}
	if err := k.finish(); err != nil {
		return errors.Join(fmt.Errorf("finish snapshot: %w", err), k.Cancel())
	}
	k.over = true
	k.st.added(k.info)
	return nil
}

func (k *snapshotSink) finish() error {
	if k.stream != nil {
		if err := k.stream.finish(); err != nil {
			return err
		}
	} else if !k.whole {
		return errors.New("nothing was written")
	}
	fs, dir := k.st.fs, path.Join(k.temp, snapshotState)
	var err error
	if k.info.Applied, err = appliedIn(k.st.s.o, fs, dir); err != nil {
		return err
	}
	if k.info.Meta.Size, err = streamSize(fs, dir); err != nil {
		return err
	}
	b, err := json.Marshal(k.info)
	if err != nil {
		return err
	}
	if err := writeFile(fs, k.temp, snapshotMeta, b); err != nil {
		return err
	}
	if err := fs.Rename(k.temp, path.Join(k.st.dir, k.info.Meta.ID)); err != nil {
		return err
	}
	return syncDir(fs, k.st.dir)
}

// appliedIn reads the applied index of a state at rest, and changes nothing there.
func appliedIn(o Options, fs vfs.FS, dir string) (uint64, error) {
	l := &quietLogger{}
	db, err := pebble.Open(dir, &pebble.Options{FS: fs, ReadOnly: true, Logger: l, FormatMajorVersion: pebble.FormatNewest})
	if err != nil {
		return 0, fmt.Errorf("open the snapshot's state: %w", err)
	}
	m, err := readMeta(db)
	return m.applied, errors.Join(err, db.Close())
}

// quietLogger is for databases that are only looked at.
type quietLogger struct{}

func (quietLogger) Infof(string, ...any)  {}
func (quietLogger) Errorf(string, ...any) {}
func (quietLogger) Fatalf(f string, args ...any) {
	panic(fmt.Sprintf(f, args...))
}

// stateSnapshot implements raft.FSMSnapshot.
type stateSnapshot struct{ s *Store }

// Persist implements raft.FSMSnapshot. The state is on its own disk before raft cuts the log.
func (p *stateSnapshot) Persist(sink raft.SnapshotSink) error {
	k, ok := sink.(*snapshotSink)
	if !ok {
		return fmt.Errorf("persist snapshot: the sink is a %T, not this store's", sink)
	}
	st, err := p.s.acquire()
	if err != nil {
		return err
	}
	defer st.release()
	applied := p.s.applied.Load()
	if err := st.settle(); err != nil {
		return err
	}
	// Only what is flushed survives here, and is in the checkpoint.
	if err := st.db.Flush(); err != nil {
		return diskError("flush the state", err)
	}
	if err := st.db.Checkpoint(path.Join(k.temp, snapshotState)); err != nil {
		return diskError("checkpoint the state", err)
	}
	k.whole = true
	p.s.raiseDurable(applied)
	return nil
}

// Release implements raft.FSMSnapshot.
func (p *stateSnapshot) Release() {}
