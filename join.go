package pollux

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage"
)

// identity is who a node is: its id for ever, its incarnation since this start.
type identity struct {
	id          string
	incarnation uint64
}

var keyNodeID = []byte("pollux/node-id")

// nextIdentity reads the node's id, drawing it at the first start, and raises the incarnation, durably.
func nextIdentity(s *storage.Store) (identity, error) {
	stable := s.StableStore()
	id, err := stable.Get(keyNodeID)
	if errors.Is(err, storage.ErrNotFound) {
		var b [5]byte
		rand.Read(b[:])
		id = []byte("n" + hex.EncodeToString(b[:]))
		err = stable.Set(keyNodeID, id)
	}
	if err != nil {
		return identity{}, fmt.Errorf("node id: %w", err)
	}
	incarnation, err := s.NextIncarnation()
	if err != nil {
		return identity{}, fmt.Errorf("incarnation: %w", err)
	}
	return identity{string(id), incarnation}, nil
}

// proposer is the cluster's raft as the store wants it.
type proposer struct{ *cluster.Raft }

func (p proposer) Propose(entry []byte, done func(any, error)) {
	p.Raft.Propose(entry, func(applied any, err error) {
		if errors.Is(err, cluster.ErrUnknown) {
			err = fmt.Errorf("%w: %w", storage.ErrUnknown, err)
		}
		done(applied, err)
	})
}

// records is the store as the cluster wants it.
type records struct {
	store *storage.Store
	log   *slog.Logger
	// room bounds the transactions on their way; each has a goroutine, for they are few: grants and hand-overs.
	room chan struct{}
}

// maxCommits bounds the cluster's own transactions on their way.
const maxCommits = 256

func newRecords(s *storage.Store, log *slog.Logger) records {
	return records{s, log, make(chan struct{}, maxCommits)}
}

func (r records) Get(table, key string) ([]byte, error) {
	rec, ok, err := r.store.Get(storage.Table(table), key)
	if err != nil || !ok {
		return nil, err
	}
	return rec.Value, nil
}

func (r records) Scan(table string) ([]cluster.Record, error) {
	var all []cluster.Record
	for rec, err := range r.store.Scan(storage.Table(table), "", "") {
		if err != nil {
			return nil, err
		}
		all = append(all, cluster.Record{Key: rec.Key, Value: rec.Value})
	}
	return all, nil
}

func (r records) Commit(txn cluster.Txn, done func(error)) {
	select {
	case r.room <- struct{}{}:
	default:
		done(fmt.Errorf("%d transactions are on their way: %w", maxCommits, cluster.ErrOverloaded))
		return
	}
	t := storage.Txn{Guards: make([]storage.Guard, len(txn.Guards)), Writes: make([]storage.Write, len(txn.Writes))}
	for i, g := range txn.Guards {
		// Without Equal a guard on revision 0 says that there is no record.
		t.Guards[i] = storage.Guard{Table: storage.Table(g.Table), Key: g.Key, Equal: g.Value}
	}
	for i, w := range txn.Writes {
		t.Writes[i] = storage.Write{Table: storage.Table(w.Table), Key: w.Key, Value: w.Value, Quiet: txn.Quiet}
	}
	go func() {
		// It waits for room, so that grants get through where the store is full of other work.
		_, err := r.store.Commit(context.Background(), &t)
		<-r.room
		switch {
		case errors.Is(err, storage.ErrGuard):
			err = fmt.Errorf("%w: %w", cluster.ErrConflict, err)
		case errors.Is(err, storage.ErrUnknown):
			err = fmt.Errorf("%w: %w", cluster.ErrUnknown, err)
		case err != nil:
			err = fmt.Errorf("%w: %w", cluster.ErrUnavailable, err)
		}
		done(err)
	}()
}

// Watch lists the table, says nil, and follows; a reader that was too slow is given the list again.
func (r records) Watch(table string, fn func([]cluster.Record)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			after, err := r.list(table, fn)
			if err == nil {
				fn(nil)
				err = r.follow(ctx, table, after, fn)
			}
			if errors.Is(err, storage.ErrClosed) {
				return
			}
			if err != nil && ctx.Err() == nil && !errors.Is(err, storage.ErrCompacted) {
				r.log.Warn("watch of the cluster's records begins again", "table", table, "error", err)
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

func (r records) list(table string, fn func([]cluster.Record)) (uint64, error) {
	view := r.store.View()
	defer view.Close()
	var all []cluster.Record
	for rec, err := range view.Scan(storage.Table(table), "", "") {
		if err != nil {
			return 0, err
		}
		all = append(all, cluster.Record{Key: rec.Key, Value: rec.Value})
	}
	if all != nil {
		fn(all)
	}
	return view.Revision(), nil
}

func (r records) follow(ctx context.Context, table string, after uint64, fn func([]cluster.Record)) error {
	changes, err := r.store.Watch(ctx, storage.Table(table), "", after)
	if err != nil {
		return err
	}
	for batch := range changes {
		out := make([]cluster.Record, len(batch))
		for i, c := range batch {
			out[i] = cluster.Record{Key: c.Key, Value: c.Value}
			if c.Deleted {
				out[i].Value = nil
			}
		}
		fn(out)
	}
	return storage.ErrCompacted
}
