package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// The store's directory:
//
//	FORMAT        the version of this layout
//	LOCK          held by the process that uses it
//	log/          Pebble: raft's log and stable store
//	CURRENT       which state directory is in use
//	state-N/      Pebble: the state machine's data
//	snapshots/    checkpoints of the state
//	blobs/        content by its SHA-256
const (
	formatFile    = "FORMAT"
	lockFile      = "LOCK"
	logDir        = "log"
	statePrefix   = "state-"
	snapshotsDir  = "snapshots"
	blobsDir      = "blobs"
	formatName    = "pollux-store"
	formatVersion = 1
)

// Names of what only this node knows, in the log's database.
const (
	localCursor        = "sample-cursor"
	localSampleStart   = "sample-start"
	localJournalCursor = "journal-cursor"
	localIncarnation   = "incarnation"
)

// Store is one node's part of the replicated keyspace. All methods may be called concurrently unless they say otherwise.
type Store struct {
	o     Options
	fs    vfs.FS
	fatal *fatal
	m     *storeMetrics
	lock  io.Closer

	log     *logDB
	stateMu sync.RWMutex
	state   *stateDB // nil: closed
	// over is what was committed to a fork, over the state; nil: this is no fork.
	over    *pebble.Batch
	machine *machine
	batcher *batcher
	hub     *hub
	snaps   *snapshotStore
	blobs   *blobStore
	readers sync.Pool // of *sampleReader

	applied, revision, floor atomic.Uint64
	// durable is an applied index that the state's own disk is known to hold.
	durable atomic.Uint64
	// cursor and sampleStart: see feed.go.
	cursor, sampleStart, journalCursor atomic.Uint64
	cursorMu                           sync.Mutex
	checksums                          checksums
	wait                               applyWaiters
	versions                           versions

	ungauge   func()
	closeOnce sync.Once
	closeErr  error
}

// FormatError says that the directory was written by a newer version, or is no store at all. Nothing was changed.
type FormatError struct {
	Dir, Found string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("open store %s: its format is %q, this version knows %q up to %d; run the version that wrote it",
		e.Dir, e.Found, formatName, formatVersion)
}

// LockedError says that another process uses the directory.
type LockedError struct {
	Dir string
	Err error
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("open store %s: it is in use by another process: %v", e.Dir, e.Err)
}

func (e *LockedError) Unwrap() error { return e.Err }

// Open opens the store in o.Dir and makes it where there is none. It refuses a directory that another process uses
// (*LockedError) or that a newer version wrote (*FormatError), and leaves both as they are.
//
// After a crash the state that reads see is behind what was acknowledged until raft has applied the log's tail again: who
// serves reads waits for the proposer's Barrier first.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	s := &Store{o: o, fs: o.FS, fatal: &fatal{logger: o.Logger, tell: o.Fatal}, m: newStoreMetrics(o.Metrics)}
	if err := s.enter(); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.closeParts())
	}
	s.ungauge = s.gauges()
	return s, nil
}

// enter checks the format, takes the lock, and makes the directory.
func (s *Store) enter() error {
	dir := s.o.Dir
	found, err := readSmall(s.fs, path.Join(dir, formatFile))
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if found != "" {
		name, number, _ := strings.Cut(found, " ")
		version, err := strconv.Atoi(number)
		if err != nil || name != formatName || version > formatVersion || version < 1 {
			return &FormatError{Dir: dir, Found: found}
		}
	} else if names, err := s.fs.List(dir); err == nil {
		for _, n := range names {
			if n == logDir || n == currentFile || strings.HasPrefix(n, statePrefix) {
				return &FormatError{Dir: dir, Found: "none, but there is " + n}
			}
		}
	}
	if err := makeDir(s.fs, dir); err != nil {
		return err
	}
	if s.lock, err = s.fs.Lock(path.Join(dir, lockFile)); err != nil {
		return &LockedError{Dir: dir, Err: err}
	}
	if found == "" {
		if err := writeSmall(s.fs, dir, formatFile, fmt.Sprintf("%s %d\n", formatName, formatVersion)); err != nil {
			return errors.Join(fmt.Errorf("open store: %w", err), s.lock.Close())
		}
	}
	return nil
}

// open opens the parts of a directory that is ours.
func (s *Store) open() error {
	var err error
	if err = makeDir(s.fs, path.Join(s.o.Dir, snapshotsDir)); err != nil {
		return err
	}
	if s.blobs, err = openBlobs(s.fs, path.Join(s.o.Dir, blobsDir), s.m); err != nil {
		return err
	}
	if s.log, err = openLog(s.o, s.fs, path.Join(s.o.Dir, logDir), &pebbleLogger{f: s.fatal, what: "log"}, s.m); err != nil {
		return err
	}
	if err = s.loadLocal(); err != nil {
		return err
	}
	if s.snaps, err = openSnapshots(s); err != nil {
		return err
	}
	if err = s.openCurrent(); err != nil {
		return err
	}
	s.hub = &hub{watchers: map[*watcher]struct{}{}}
	s.batcher = newBatcher(s)
	s.machine = newMachine(s)
	if err = s.machine.load(s.state.db); err != nil {
		return err
	}
	s.adopt(s.machine.meta)
	s.log.limit = s.truncationLimit
	return s.checkLog()
}

// openCurrent opens the state that CURRENT names, and removes what other states are left over. Where a snapshot was
// received and the state is still older, it restores that first: raft would not feed the entries between again.
func (s *Store) openCurrent() error {
	name, err := s.readCurrent()
	if err != nil {
		return err
	}
	if name == "" {
		name = statePrefix + "1"
		if err := syncDir(s.fs, s.o.Dir); err != nil {
			return err
		}
		if err := s.writeCurrent(name); err != nil {
			return err
		}
	}
	if !strings.HasPrefix(name, statePrefix) || strings.ContainsAny(name, "/\\") {
		return fmt.Errorf("open store: %s names %q", currentFile, name)
	}
	if s.state, err = openState(s.o, s.fs, path.Join(s.o.Dir, name), &pebbleLogger{f: s.fatal, what: "state"}); err != nil {
		return err
	}
	names, err := s.fs.List(s.o.Dir)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, statePrefix) && n != name {
			if err := s.fs.RemoveAll(path.Join(s.o.Dir, n)); err != nil {
				return fmt.Errorf("remove an old state: %w", err)
			}
		}
	}
	return s.catchUpWithSnapshot()
}

// checkLog refuses a log that begins behind what the state has: entries between are lost.
func (s *Store) checkLog() error {
	first := s.log.first.Load()
	known := max(s.applied.Load(), s.snaps.newestIndex())
	if first > known+1 {
		return fmt.Errorf("open store %s: the log begins at %d, the state ends at %d: entries between are missing", s.o.Dir, first, known)
	}
	return nil
}

// adopt makes a state's numbers the store's.
func (s *Store) adopt(m meta) {
	s.applied.Store(m.applied)
	s.revision.Store(m.revision)
	s.floor.Store(m.floor)
}

// published is called when a batch is in the state's database.
func (s *Store) published(before, now meta, tables map[Table]struct{}) {
	s.revision.Store(now.revision)
	s.applied.Store(now.applied)
	s.wait.reached(now.applied)
	if now.floor != before.floor {
		s.floor.Store(now.floor)
		s.hub.notify(nil)
	} else if len(tables) > 0 {
		s.hub.notify(tables)
	}
}

// truncationLimit gives the index up to which the log may be cut, and the applied one.
func (s *Store) truncationLimit() (free, applied uint64) {
	return s.held(s.durable.Load()), s.applied.Load()
}

// LogStore is raft's log on this store. Wrap it in a raft.LogCache only with a small one: entries have up to 512 KiB.
func (s *Store) LogStore() raft.LogStore { return s.log }

// StableStore is raft's store of its votes and terms.
func (s *Store) StableStore() raft.StableStore { return s.log }

// SnapshotStore is raft's store of checkpoints. Raft must run with NoSnapshotRestoreOnStart.
func (s *Store) SnapshotStore() raft.SnapshotStore { return s.snaps }

// FSM is the state machine; it implements raft.BatchingFSM.
func (s *Store) FSM() raft.FSM { return s.machine }

// Start makes Submit and Commit work. incarnation must be higher than in any earlier run of the node of this name;
// NextIncarnation gives one. It may be called once.
func (s *Store) Start(p Proposer, node string, incarnation uint64) error {
	if node == "" || len(node) > 255 || strings.IndexByte(node, 0) >= 0 {
		return fmt.Errorf("start store: node name %q: 1 to 255 bytes, none of them zero, are allowed", node)
	}
	return s.batcher.start(p, node, incarnation)
}

// NextIncarnation gives a number that this directory has never given before; it is on the disk when the call returns.
func (s *Store) NextIncarnation() (uint64, error) {
	s.cursorMu.Lock()
	defer s.cursorMu.Unlock()
	n, err := s.log.local(localIncarnation)
	if err != nil {
		return 0, err
	}
	return n + 1, s.log.setLocal(localIncarnation, n+1)
}

// Submit proposes a transaction. It never blocks, and keeps no reference to t. Unless it returns an error, done is called
// exactly once, from a goroutine of the store's, and must not block. Result.Err wraps ErrGuard (as *GuardError) where a
// guard did not hold, and ErrUnknown where the transaction may or may not have been applied.
//
// Submit returns ErrBusy where the bound on bytes in flight is reached or the store is not started, ErrTooLarge,
// ErrClosed, or says what of t is not allowed.
func (s *Store) Submit(t *Txn, done func(Result)) error { return s.batcher.submit(t, false, done) }

// Commit proposes a transaction and waits for room and for its result. When ctx ends first the error wraps the context's
// error, and ErrUnknown if the transaction was proposed by then, ErrBusy if not.
func (s *Store) Commit(ctx context.Context, t *Txn) (revision uint64, err error) {
	if s.over != nil {
		return s.commitFork(t)
	}
	return s.batcher.commit(ctx, t)
}

// Revision of the last transaction applied here.
func (s *Store) Revision() uint64 { return s.revision.Load() }

// AppliedIndex is the index of the last log entry applied here.
func (s *Store) AppliedIndex() uint64 { return s.applied.Load() }

// DurableIndex is an applied index that survives a power loss without the log.
func (s *Store) DurableIndex() uint64 { return s.durable.Load() }

// LogBytes is how much of the log a snapshot would let go, in bytes: a measure for when to take one. Entries whose samples
// are not read do not count, as they would stay.
func (s *Store) LogBytes() int64 {
	_, free := s.log.sizes.sizes(s.held(s.applied.Load()))
	return free
}

// LogSize is the size of the whole log, in bytes.
func (s *Store) LogSize() int64 {
	all, _ := s.log.sizes.sizes(0)
	return all
}

// Err says why the store cannot go on; nil while it can.
func (s *Store) Err() error { return s.fatal.err() }

// Close writes the state to the disk and closes the store. Raft must be shut down before. Transactions that wait fail with
// ErrClosed, those in flight with ErrUnknown; watches end. It waits for views and scans to be closed.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.batcher.close()
		s.hub.close()
		s.wait.close()
		s.ungauge()
		s.closeErr = s.closeParts()
	})
	return s.closeErr
}

func (s *Store) closeParts() error {
	var errs []error
	s.stateMu.Lock()
	st := s.state
	s.state = nil
	s.stateMu.Unlock()
	if s.fatal.stuck.Load() {
		// Pebble keeps whoever met the error and would keep us; the lock goes with the process.
		return fmt.Errorf("close store: %w", s.fatal.err())
	}
	if st != nil {
		if s.fatal.err() == nil {
			errs = append(errs, st.settle(), st.db.Flush())
		}
		st.release()
		<-st.closed
		errs = append(errs, st.err)
	}
	if s.log != nil {
		errs = append(errs, s.log.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// raiseDurable notes that the state's own disk holds everything up to an index.
func (s *Store) raiseDurable(to uint64) {
	for {
		v := s.durable.Load()
		if v >= to || s.durable.CompareAndSwap(v, to) {
			return
		}
	}
}
