package storage

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"
)

// restore replaces the state by a snapshot's: into a directory of its own, opened and looked at, and then named by
// CURRENT. Up to there an error leaves the old state as it is; behind it the process must end, as memory and disk differ.
func (s *Store) restore(m *machine, rc io.ReadCloser) error {
	if err := s.fatal.err(); err != nil {
		return err
	}
	s.stateMu.RLock()
	old := s.state
	s.stateMu.RUnlock()
	if old == nil {
		return ErrClosed
	}
	name, err := nextState(path.Base(old.dir))
	if err != nil {
		return err
	}
	dir := path.Join(s.o.Dir, name)
	if err := s.fillState(dir, rc); err != nil {
		return errors.Join(fmt.Errorf("restore snapshot: %w", err), s.fs.RemoveAll(dir))
	}
	fresh, err := openState(s.o, s.fs, dir, &pebbleLogger{f: s.fatal, what: "state"})
	if err != nil {
		return errors.Join(fmt.Errorf("restore snapshot: %w", err), s.fs.RemoveAll(dir))
	}
	if err := s.swapState(m, old, fresh, name); err != nil {
		err = fmt.Errorf("restore snapshot: %w", err)
		s.fatal.fail(err)
		return err
	}
	return nil
}

// swapState makes fresh the state in use.
func (s *Store) swapState(m *machine, old, fresh *stateDB, name string) error {
	if err := m.load(fresh.db); err != nil {
		return err
	}
	// What lies before has no log here; said before anybody can see the new state (see ReadSamples).
	if err := s.startSamplesAt(m.meta.applied); err != nil {
		return err
	}
	if err := syncDir(s.fs, s.o.Dir); err != nil {
		return err
	}
	if err := s.writeCurrent(name); err != nil {
		return err
	}
	old.retired.Store(true)
	s.stateMu.Lock()
	s.state = fresh
	s.stateMu.Unlock()
	old.release()
	s.versions.replaced()
	s.durable.Store(m.meta.applied)
	s.adopt(m.meta)
	s.wait.reached(m.meta.applied)
	// A restored state has a change log of its own; who is before its floor is told so.
	s.hub.notify(nil)
	return nil
}

func (s *Store) startSamplesAt(index uint64) error {
	s.cursorMu.Lock()
	defer s.cursorMu.Unlock()
	if index <= s.sampleStart.Load() {
		return nil
	}
	if err := s.log.setLocal(localSampleStart, index); err != nil {
		return err
	}
	s.sampleStart.Store(index)
	return nil
}

func nextState(name string) (string, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(name, statePrefix), 10, 63)
	if err != nil {
		return "", fmt.Errorf("state directory %q: %w", name, err)
	}
	return statePrefix + strconv.FormatUint(n+1, 10), nil
}

// fillState puts a snapshot's files into dir: by links where the snapshot is this store's own.
func (s *Store) fillState(dir string, rc io.Reader) error {
	if err := s.fs.RemoveAll(dir); err != nil {
		return err
	}
	if err := s.fs.MkdirAll(dir, 0o700); err != nil {
		return diskError("make directory "+dir, err)
	}
	for {
		w, ok := rc.(raft.ReadCloserWrapper)
		if !ok {
			break
		}
		rc = w.WrappedReadCloser()
	}
	if r, ok := rc.(*snapshotReader); ok {
		return s.linkState(r.dir, dir)
	}
	return unpackSnapshot(s.fs, dir, rc)
}

// linkState links the tables and copies the rest, which Pebble writes to.
func (s *Store) linkState(from, to string) error {
	names, err := s.fs.List(from)
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasSuffix(n, ".sst") || strings.HasSuffix(n, ".blob") {
			if err := s.fs.Link(path.Join(from, n), path.Join(to, n)); err == nil {
				continue
			}
		}
		if err := s.copyFile(path.Join(from, n), path.Join(to, n)); err != nil {
			return err
		}
	}
	return syncDir(s.fs, to)
}

func (s *Store) copyFile(from, to string) error {
	r, err := s.fs.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := s.fs.Create(to, fileCategory)
	if err != nil {
		return diskError("write "+to, err)
	}
	_, err = io.Copy(writeOnly{w}, readOnly{r})
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return diskError("write "+to, err)
	}
	return nil
}

type readOnly struct{ io.Reader }

// catchUpWithSnapshot restores the newest snapshot where the state is older than what the snapshot holds: the process
// ended between receiving and restoring it. At that time nobody reads yet.
func (s *Store) catchUpWithSnapshot() error {
	s.snaps.mu.Lock()
	var info snapshotInfo
	if len(s.snaps.all) > 0 {
		info = s.snaps.all[0]
	}
	s.snaps.mu.Unlock()
	m, err := readMeta(s.state.db)
	if err != nil || m.applied >= info.Applied {
		return err
	}
	name, err := nextState(path.Base(s.state.dir))
	if err != nil {
		return err
	}
	dir := path.Join(s.o.Dir, name)
	if err := errors.Join(s.fs.RemoveAll(dir), s.fs.MkdirAll(dir, 0o700)); err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	if err := s.linkState(s.snaps.stateDir(info.Meta.ID), dir); err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	fresh, err := openState(s.o, s.fs, dir, &pebbleLogger{f: s.fatal, what: "state"})
	if err != nil {
		return err
	}
	old := s.state
	s.state = fresh
	if err := errors.Join(s.startSamplesAt(info.Applied), syncDir(s.fs, s.o.Dir), s.writeCurrent(name)); err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	s.durable.Store(info.Applied)
	old.retired.Store(true)
	old.release()
	return old.err
}
