package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/cockroachdb/pebble/v2"
)

func joinClose(err error, c io.Closer) error { return errors.Join(err, c.Close()) }

// Get reads a record of the last applied state. It may read the disk.
func (s *Store) Get(table Table, key string) (Record, bool, error) {
	st, err := s.acquireBehind()
	if err != nil {
		return Record{}, false, err
	}
	defer st.release()
	if s.over != nil {
		if err := st.settle(); err != nil {
			return Record{}, false, err
		}
		return get(s.over, table, key)
	}
	var space [128]byte
	if v, deleted, waits := st.waiting(appendDataKey(space[:0], table, key)); deleted {
		return Record{}, false, nil
	} else if waits {
		rec, err := record(table, key, v)
		return rec, err == nil, err
	}
	return get(st.db, table, key)
}

// Scan gives the records of the table whose keys have the prefix and are behind after, in the order of their keys, as
// they are when the iteration begins. After an error the iteration ends.
func (s *Store) Scan(table Table, prefix, after string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		st, err := s.acquire()
		if err != nil {
			yield(Record{}, err)
			return
		}
		defer st.release()
		scan(s.reader(st), table, prefix, after, yield)
	}
}

// Count counts the records of the table whose keys have the prefix. It reads them all.
func (s *Store) Count(table Table, prefix string) (int, error) {
	st, err := s.acquire()
	if err != nil {
		return 0, err
	}
	defer st.release()
	it, err := newScan(s.reader(st), table, prefix, "")
	if err != nil {
		return 0, err
	}
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		return 0, fmt.Errorf("count %s: %w", table, err)
	}
	return n, nil
}

// View is the state as it was at one revision. It must be closed; it keeps the disk space of what it sees. Its methods
// may be called concurrently.
type View struct {
	st   *stateDB
	snap *pebble.Snapshot
	meta meta
	err  error
}

// View gives the last applied state. Its methods report ErrClosed if the store is closed.
func (s *Store) View() *View {
	st, err := s.acquire()
	if err != nil {
		return &View{err: err}
	}
	v := &View{st: st, snap: st.db.NewSnapshot()}
	if v.meta, err = readMeta(v.snap); err != nil {
		v.err = err
	}
	return v
}

// Revision of the last transaction that the view sees.
func (v *View) Revision() uint64 { return v.meta.revision }

// AppliedIndex of the log that the view sees.
func (v *View) AppliedIndex() uint64 { return v.meta.applied }

// Get reads a record.
func (v *View) Get(table Table, key string) (Record, bool, error) {
	if v.err != nil {
		return Record{}, false, v.err
	}
	return get(v.snap, table, key)
}

// Scan is Store.Scan on the view.
func (v *View) Scan(table Table, prefix, after string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if v.err != nil {
			yield(Record{}, v.err)
			return
		}
		scan(v.snap, table, prefix, after, yield)
	}
}

// Close gives the view back. It may be called once.
func (v *View) Close() error {
	if v.st == nil {
		return nil
	}
	err := v.snap.Close()
	v.st.release()
	return err
}

func get(r pebble.Reader, table Table, key string) (Record, bool, error) {
	var space [128]byte
	v, closer, err := r.Get(appendDataKey(space[:0], table, key))
	if errors.Is(err, pebble.ErrNotFound) {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("get %s %q: %w", table, key, err)
	}
	rec, err := record(table, key, v)
	return rec, err == nil, errors.Join(err, closer.Close())
}

// record copies a stored value.
func record(table Table, key string, v []byte) (Record, error) {
	revision, n := binary.Uvarint(v)
	if n <= 0 {
		return Record{}, errMalformed(fmt.Sprintf("record %s %q", table, key))
	}
	return Record{Key: key, Value: append([]byte{}, v[n:]...), Revision: revision}, nil
}

func newScan(r pebble.Reader, table Table, prefix, after string) (*pebble.Iterator, error) {
	lower := dataKey(table, prefix)
	end := upper(lower)
	if after >= prefix && after != "" {
		lower = append(dataKey(table, after), 0)
	}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: end})
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", table, err)
	}
	return it, nil
}

func scan(r pebble.Reader, table Table, prefix, after string, yield func(Record, error) bool) {
	it, err := newScan(r, table, prefix, after)
	if err != nil {
		yield(Record{}, err)
		return
	}
	head := 2 + len(table)
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		var rec Record
		if err == nil {
			rec, err = record(table, string(it.Key()[head:]), v)
		}
		if !yield(rec, err) || err != nil {
			_ = it.Close()
			return
		}
	}
	if err := it.Close(); err != nil {
		yield(Record{}, fmt.Errorf("scan %s: %w", table, err))
	}
}
