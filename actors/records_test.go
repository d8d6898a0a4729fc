package actors_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage"
)

// records is the store as the cluster wants it.
type records struct{ store *storage.Store }

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
	t := &storage.Txn{}
	for _, g := range txn.Guards {
		t.Guards = append(t.Guards, storage.Guard{Table: storage.Table(g.Table), Key: g.Key, Equal: g.Value})
	}
	for _, w := range txn.Writes {
		t.Writes = append(t.Writes, storage.Write{Table: storage.Table(w.Table), Key: w.Key, Value: w.Value, Quiet: txn.Quiet})
	}
	go func() {
		_, err := r.store.Commit(context.Background(), t)
		if errors.Is(err, storage.ErrGuard) {
			err = fmt.Errorf("%w: %w", cluster.ErrConflict, err)
		}
		done(err)
	}()
}

func (r records) Watch(table string, fn func([]cluster.Record)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ch, err := r.store.Watch(ctx, storage.Table(table), "", 0)
	if err != nil {
		panic(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		listed := false
		for batch := range ch {
			if len(batch) == 0 && !listed {
				listed = true
				fn(nil)
				continue
			}
			var out []cluster.Record
			for _, c := range batch {
				out = append(out, cluster.Record{Key: c.Key, Value: c.Value})
			}
			if out != nil {
				fn(out)
			}
		}
	}()
	return func() { cancel(); <-done }
}
