package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/polluxhq/pollux/storage"
)

const (
	// batchBytes and batchRecords bound a transaction of a restore.
	batchBytes   = 128 << 10
	batchRecords = 256
	// batchSamples in a transaction, of at most some 30 bytes each.
	batchSamples = 2_000
	// tries of a transaction whose outcome is unknown: each part of a restore may be done twice.
	tries = 20
	// restoreKey is the record of TableRestore.
	restoreKey = "state"
)

// RestoreOptions of Restore.
type RestoreOptions struct {
	Store *storage.Store
	// TempDir is where the stream is kept until it is known to be whole; empty: the system's. It needs the backup's size.
	TempDir string
	// Fresh are tables that a cluster without content has records in too, such as its first key. Others must be empty.
	Fresh []storage.Table
	// Quiet are the tables that nobody watches: the states of a million twins would push everything else out of what is
	// kept for watchers.
	Quiet []storage.Table
	// Logger tells how far it is. Nil: nobody.
	Logger *slog.Logger
}

// state is the record of TableRestore.
type state struct {
	// Digest of the backup, SHA-256.
	Digest  string    `json:"digest"`
	Cluster string    `json:"cluster"`
	Time    time.Time `json:"time"`
}

// Restore reads a whole backup into a cluster that holds nothing yet: first the stream is read to its end and checked,
// then blobs, records and samples are committed like any others. So every node gets them by the log, history too. It
// blocks.
//
// Its errors wrap ErrDamaged, ErrNewer and ErrNotEmpty, and then nothing was changed. After another error a part may be
// there; Restore of the same backup goes on from it, of another one is refused.
func Restore(ctx context.Context, r io.Reader, o RestoreOptions) (Summary, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	// So that who is not empty is told before a gigabyte is read.
	going, err := o.begun()
	if err == nil && going == nil {
		err = o.empty()
	}
	if err != nil {
		return Summary{}, fmt.Errorf("restore: %w", err)
	}
	file, sum, s, err := o.spool(ctx, r)
	if err != nil {
		return s, fmt.Errorf("restore: %w", err)
	}
	defer func() { _ = file.Close() }()
	if err := o.apply(ctx, file, state{Digest: sum, Cluster: s.Cluster, Time: s.Time}); err != nil {
		return s, fmt.Errorf("restore: %w", err)
	}
	s.Revision = o.Store.Revision()
	return s, nil
}

// begun reads whether a restore has begun and not ended.
func (o *RestoreOptions) begun() (*state, error) {
	rec, ok, err := o.Store.Get(TableRestore, restoreKey)
	if err != nil || !ok {
		return nil, err
	}
	st := &state{}
	if err := json.Unmarshal(rec.Value, st); err != nil {
		return nil, fmt.Errorf("record of a restore: %w", err)
	}
	return st, nil
}

// empty looks for records that a cluster without content has not.
func (o *RestoreOptions) empty() error {
	v := o.Store.View()
	defer func() { _ = v.Close() }()
	tables, err := v.Tables()
	if err != nil {
		return err
	}
	for _, t := range tables {
		if own[t] || slices.Contains(o.Fresh, t) {
			continue
		}
		for rec, err := range v.Scan(t, "", "") {
			if err != nil {
				return err
			}
			return fmt.Errorf("%w: it has records, such as %s %q", ErrNotEmpty, t, rec.Key)
		}
	}
	return nil
}

// spool keeps the stream in a file, and reads it to its end on the way.
func (o *RestoreOptions) spool(ctx context.Context, r io.Reader) (_ *os.File, sum string, s Summary, err error) {
	file, err := os.CreateTemp(o.TempDir, "pollux-restore-")
	if err != nil {
		return nil, "", s, err
	}
	// Without a name from now on: it goes with the process, however that ends.
	if err := os.Remove(file.Name()); err != nil {
		return nil, "", s, errors.Join(err, file.Close())
	}
	hash := sha256.New()
	s, err = Verify(ctx, io.TeeReader(r, io.MultiWriter(file, hash)))
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, "", s, errors.Join(err, file.Close())
	}
	return file, hex.EncodeToString(hash.Sum(nil)), s, nil
}

// apply commits a backup that is known to be whole.
func (o *RestoreOptions) apply(ctx context.Context, file io.Reader, now state) error {
	value, err := json.Marshal(now)
	if err != nil {
		return err
	}
	_, err = o.commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: TableRestore, Key: restoreKey}},
		Writes: []storage.Write{{Table: TableRestore, Key: restoreKey, Value: value}}})
	if errors.Is(err, storage.ErrGuard) {
		going, gerr := o.begun()
		switch {
		case gerr != nil:
			return gerr
		case going == nil || going.Digest != now.Digest:
			return fmt.Errorf("%w: the restore of another backup has begun and not ended", ErrNotEmpty)
		}
		err = nil
	} else if err == nil {
		// Between the first look and now somebody may have written.
		if err = o.empty(); err != nil {
			return errors.Join(err, o.finish(ctx))
		}
	}
	if err != nil {
		return err
	}
	a := &applier{o: o, ctx: ctx, began: time.Now(), told: time.Now()}
	if _, err := walk(ctx, file, a); err != nil {
		return err
	}
	if err := errors.Join(a.flushRecords(), a.flushSamples(), a.flushEntries()); err != nil {
		return err
	}
	if err := a.named(); err != nil {
		return err
	}
	return o.finish(ctx)
}

// finish ends a restore: TableRestore is empty again.
func (o *RestoreOptions) finish(ctx context.Context) error {
	_, err := o.commit(ctx, &storage.Txn{Writes: []storage.Write{{Table: TableRestore, Key: restoreKey}}})
	return err
}

// commit tries again where the outcome is unknown: a record that is there then is found by its guard.
func (o *RestoreOptions) commit(ctx context.Context, t *storage.Txn) (uint64, error) {
	for i := 1; ; i++ {
		revision, err := o.Store.Commit(ctx, t)
		if !errors.Is(err, storage.ErrUnknown) || i == tries || ctx.Err() != nil {
			return revision, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// applier is the visitor that commits.
type applier struct {
	o    *RestoreOptions
	ctx  context.Context
	txn  storage.Txn
	size int

	list    []storage.TwinSamples
	counted int

	entries      []storage.JournalEntry
	entriesBytes int

	digests               []string
	records, samplesSoFar uint64
	began, told           time.Time
}

func (a *applier) blob(digest string, data []byte) error {
	a.digests = append(a.digests, digest)
	_, err := a.o.Store.PutBlob(a.ctx, data)
	return err
}

func (a *applier) record(table storage.Table, key string, value []byte) error {
	if len(a.txn.Writes) == batchRecords || a.size+len(key)+len(value) > batchBytes {
		if err := a.flushRecords(); err != nil {
			return err
		}
	}
	a.size += len(key) + len(value) + len(table)
	a.txn.Guards = append(a.txn.Guards, storage.Guard{Table: table, Key: key})
	a.txn.Writes = append(a.txn.Writes, storage.Write{Table: table, Key: key, Value: append([]byte{}, value...), Quiet: slices.Contains(a.o.Quiet, table)})
	return nil
}

func (a *applier) flushRecords() error {
	if len(a.txn.Writes) == 0 {
		return nil
	}
	_, err := a.o.commit(a.ctx, &a.txn)
	if errors.Is(err, storage.ErrGuard) {
		err = a.oneByOne()
	}
	if err != nil {
		return err
	}
	a.records += uint64(len(a.txn.Writes))
	a.txn, a.size = storage.Txn{}, 0
	a.tell()
	return nil
}

// oneByOne commits a transaction's records of which some are there, left by a restore that was broken off.
func (a *applier) oneByOne() error {
	for i := range a.txn.Writes {
		w := &a.txn.Writes[i]
		_, err := a.o.commit(a.ctx, &storage.Txn{Guards: a.txn.Guards[i : i+1], Writes: a.txn.Writes[i : i+1]})
		if !errors.Is(err, storage.ErrGuard) {
			if err != nil {
				return err
			}
			continue
		}
		rec, ok, err := a.o.Store.Get(w.Table, w.Key)
		if err != nil {
			return err
		}
		if ok && !bytes.Equal(rec.Value, w.Value) {
			// What is restored may be in use already: a twin that was started has a newer state.
			a.o.Logger.Debug("restore: a record is newer than the backup's", "table", string(w.Table), "key", w.Key)
		}
	}
	return nil
}

func (a *applier) samples(samples []storage.TwinSamples) error {
	if err := a.flushRecords(); err != nil {
		return err
	}
	for _, t := range samples {
		for part := range slices.Chunk(t.Samples, batchSamples) {
			if a.counted+len(part) > batchSamples {
				if err := a.flushSamples(); err != nil {
					return err
				}
			}
			t.Samples = slices.Clone(part)
			a.list = append(a.list, t)
			a.counted += len(part)
		}
	}
	return nil
}

func (a *applier) flushSamples() error {
	if len(a.list) == 0 {
		return nil
	}
	if _, err := a.o.commit(a.ctx, &storage.Txn{Samples: a.list}); err != nil {
		return err
	}
	a.samplesSoFar += uint64(a.counted)
	a.list, a.counted = a.list[:0], 0
	a.tell()
	return nil
}

// entry keeps its sequence: restored twice it is there once.
func (a *applier) entry(e *storage.JournalEntry) error {
	if err := errors.Join(a.flushRecords(), a.flushSamples()); err != nil {
		return err
	}
	size := len(e.Twin) + len(e.Name) + len(e.Data) + 64
	if a.entriesBytes+size > batchBytes {
		if err := a.flushEntries(); err != nil {
			return err
		}
	}
	a.entries, a.entriesBytes = append(a.entries, *e), a.entriesBytes+size
	return nil
}

func (a *applier) flushEntries() error {
	if len(a.entries) == 0 {
		return nil
	}
	_, err := a.o.commit(a.ctx, &storage.Txn{Journal: a.entries})
	a.entries, a.entriesBytes = a.entries[:0], 0
	a.tell()
	return err
}

// named ends the announcements of the blobs: records name them now.
func (a *applier) named() error {
	for part := range slices.Chunk(a.digests, batchRecords) {
		t := &storage.Txn{}
		for _, d := range part {
			t.Writes = append(t.Writes, storage.PendingWrite(d))
		}
		if _, err := a.o.commit(a.ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// tell says now and then how far it is.
func (a *applier) tell() {
	if time.Since(a.told) < 5*time.Second {
		return
	}
	a.told = time.Now()
	a.o.Logger.Info("restoring", "records", a.records, "samples", a.samplesSoFar, "seconds", int(time.Since(a.began).Seconds()))
}
