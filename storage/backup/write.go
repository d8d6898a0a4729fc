package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/storage/journal"
)

// Options of Write.
type Options struct {
	Store *storage.Store
	// References names the blobs that records need.
	References storage.References
	// History to be saved; nil: none. It must be complete.
	History history.Exporter
	// Journal to be saved; nil: none. It must be complete.
	Journal *journal.Journal
	// Cluster and Version are noted.
	Cluster, Version string
	// Last are tables whose records are restored behind all others', in this order: those on which somebody acts.
	Last []storage.Table
}

// Write saves everything as of one revision, and history as of a moment later. It blocks; meanwhile the cluster serves, and
// the disk space of what is replaced stays taken. Only a whole stream is a backup: after an error w has a part, which
// Restore refuses.
func Write(ctx context.Context, w io.Writer, o Options) (Summary, error) {
	if o.History != nil && !o.History.Complete() || o.Journal != nil && !o.Journal.Complete() {
		return Summary{}, fmt.Errorf("back up: %w", ErrIncomplete)
	}
	v := o.Store.View()
	defer func() { _ = v.Close() }()
	s := Summary{Cluster: o.Cluster, Version: o.Version, Revision: v.Revision(), Time: time.Now().UTC().Truncate(time.Millisecond), History: o.History != nil, Journal: o.Journal != nil}
	out, err := newWriter(w)
	if err == nil {
		err = out.json(kindManifest, s)
	}
	if err == nil {
		s.Blobs, err = writeBlobs(ctx, out, &o, v)
	}
	if err == nil {
		s.Records, err = writeRecords(ctx, out, &o, v)
	}
	if err == nil && o.History != nil {
		s.Samples, err = writeHistory(ctx, out, o.History)
	}
	if err == nil && o.Journal != nil {
		s.Entries, err = writeJournal(ctx, out, o.Journal)
	}
	if err == nil {
		err = out.json(kindEnd, totals{Records: s.Records, Blobs: s.Blobs, Samples: s.Samples, Entries: s.Entries, Size: out.size})
	}
	if err != nil {
		return s, fmt.Errorf("back up: %w", err)
	}
	s.Size = out.size
	return s, nil
}

// writeBlobs comes first, before the collector may look at what the view still names.
func writeBlobs(ctx context.Context, out *writer, o *Options, v *storage.View) (uint64, error) {
	named := map[string]bool{}
	if err := o.References(v, func(digest string) { named[digest] = true }); err != nil {
		return 0, fmt.Errorf("which blobs are needed: %w", err)
	}
	digests := make([]string, 0, len(named))
	for d := range named {
		digests = append(digests, d)
	}
	slices.Sort(digests)
	o.Store.TouchBlobs(digests)
	for _, d := range digests {
		data, err := o.Store.FetchBlob(ctx, d)
		if err != nil {
			return 0, err
		}
		if err := out.json(kindBlob, blobHead{d, len(data)}); err != nil {
			return 0, err
		}
		for part := range slices.Chunk(data, maxFrame) {
			if err := out.frame(kindData, part); err != nil {
				return 0, err
			}
		}
	}
	return uint64(len(digests)), nil
}

func writeRecords(ctx context.Context, out *writer, o *Options, v *storage.View) (uint64, error) {
	tables, err := v.Tables()
	if err != nil {
		return 0, err
	}
	slices.SortStableFunc(tables, func(a, b storage.Table) int { return slices.Index(o.Last, a) - slices.Index(o.Last, b) })
	var n uint64
	var buf []byte
	flush := func() error {
		if len(buf) == 0 {
			return nil
		}
		err := out.frame(kindRecords, buf)
		buf = buf[:0]
		return err
	}
	for _, table := range tables {
		if own[table] {
			continue
		}
		for rec, err := range v.Scan(table, "", "") {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return n, err
			}
			if len(buf)+len(rec.Key)+len(rec.Value) > fullFrame {
				if err := flush(); err != nil {
					return n, err
				}
			}
			buf = appendPart(appendPart(appendPart(buf, string(table)), rec.Key), rec.Value)
			n++
		}
	}
	return n, flush()
}

// writeHistory passes an export on, and reads it on the way: so it is counted, and known to be whole.
func writeHistory(ctx context.Context, out *writer, h history.Exporter) (samples uint64, err error) {
	err = pass(ctx, out, kindHistory, func(ctx context.Context, w io.Writer) error { return h.Export(ctx, w, time.Time{}, time.Time{}) },
		func(ctx context.Context, r io.Reader) (complete bool, err error) {
			info, n, err := history.ReadExport(r, func([]storage.TwinSamples) error { return ctx.Err() })
			samples = n
			return info.Complete, err
		})
	if err != nil {
		return samples, fmt.Errorf("history: %w", err)
	}
	return samples, nil
}

func writeJournal(ctx context.Context, out *writer, j *journal.Journal) (entries uint64, err error) {
	err = pass(ctx, out, kindJournal, j.Export, func(ctx context.Context, r io.Reader) (complete bool, err error) {
		complete, _, entries, err = journal.ReadExport(r, func(*storage.JournalEntry) error { return ctx.Err() })
		return complete, err
	})
	if err != nil {
		return entries, fmt.Errorf("journal: %w", err)
	}
	return entries, nil
}

// pass puts an export into frames of the kind while it is read.
func pass(ctx context.Context, out *writer, kind byte, export func(context.Context, io.Writer) error,
	read func(context.Context, io.Reader) (complete bool, err error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pw.CloseWithError(export(ctx, pw))
	}()
	frames := &exportFrames{out: out, kind: kind, buf: make([]byte, 0, fullFrame)}
	complete, err := read(ctx, io.TeeReader(pr, frames))
	if err == nil && !complete {
		err = ErrIncomplete
	}
	if err == nil {
		// Nothing is behind the end, but the exporter has to see that it was taken.
		_, err = io.Copy(frames, pr)
	}
	_ = pr.CloseWithError(errors.New("nobody reads on"))
	<-done
	if err != nil {
		return err
	}
	return frames.flush()
}

// exportFrames puts what is written into frames of the kind.
type exportFrames struct {
	out  *writer
	kind byte
	buf  []byte
}

func (f *exportFrames) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		k := min(len(p), cap(f.buf)-len(f.buf))
		f.buf = append(f.buf, p[:k]...)
		p = p[k:]
		if len(f.buf) == cap(f.buf) {
			if err := f.flush(); err != nil {
				return n - len(p), err
			}
		}
	}
	return n, nil
}

func (f *exportFrames) flush() error {
	if len(f.buf) == 0 {
		return nil
	}
	err := f.out.frame(f.kind, f.buf)
	f.buf = f.buf[:0]
	return err
}

func decodeSummary(content []byte) (s Summary, err error) { return s, json.Unmarshal(content, &s) }
