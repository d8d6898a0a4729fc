// Package records lets the cluster keep its records in a store: the two do not import each other.
package records

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage"
)

// Records is a store as the cluster wants it. Safe for concurrent use.
type Records struct {
	store *storage.Store
	log   *slog.Logger
	// room bounds the transactions on their way; each has a goroutine, for they are few: grants and hand-overs.
	room chan struct{}
}

var _ cluster.Records = (*Records)(nil)

// maxCommits bounds the cluster's own transactions on their way.
const maxCommits = 256

// Of gives the records of a store, which stays the caller's; log hears of watches that begin again.
func Of(s *storage.Store, log *slog.Logger) *Records {
	return &Records{s, log, make(chan struct{}, maxCommits)}
}

// Get implements cluster.Records.
func (r *Records) Get(table, key string) ([]byte, error) {
	rec, ok, err := r.store.Get(storage.Table(table), key)
	if err != nil || !ok {
		return nil, err
	}
	return rec.Value, nil
}

// Version implements cluster.Records.
func (r *Records) Version(table string) uint64 { return r.store.Version(storage.Table(table)) }

// Scan implements cluster.Records.
func (r *Records) Scan(table string) ([]cluster.Record, error) {
	var all []cluster.Record
	for rec, err := range r.store.Scan(storage.Table(table), "", "") {
		if err != nil {
			return nil, err
		}
		all = append(all, cluster.Record{Key: rec.Key, Value: rec.Value})
	}
	return all, nil
}

// Commit implements cluster.Records. More than maxCommits at once are refused with ErrOverloaded.
func (r *Records) Commit(txn cluster.Txn, done func(error)) {
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

// Watch implements cluster.Records: it lists the table, says nil, and follows; a reader that was too slow is given the list again.
func (r *Records) Watch(table string, fn func([]cluster.Record)) (stop func()) {
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

func (r *Records) list(table string, fn func([]cluster.Record)) (uint64, error) {
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

func (r *Records) follow(ctx context.Context, table string, after uint64, fn func([]cluster.Record)) error {
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
