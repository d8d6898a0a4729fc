package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/storage/journal"
)

// visitor gets what a backup holds, in the order of the file. What it is given is its own during the call.
type visitor interface {
	blob(digest string, data []byte) error
	record(table storage.Table, key string, value []byte) error
	samples(samples []storage.TwinSamples) error
	entry(e *storage.JournalEntry) error
}

// Verify reads a whole backup and says what it holds. It changes nothing, and reads no further than the backup's end.
func Verify(ctx context.Context, r io.Reader) (Summary, error) { return walk(ctx, r, nothing{}) }

type nothing struct{}

func (nothing) blob(string, []byte) error                  { return nil }
func (nothing) record(storage.Table, string, []byte) error { return nil }
func (nothing) samples([]storage.TwinSamples) error        { return nil }
func (nothing) entry(*storage.JournalEntry) error          { return nil }

// walk reads a backup and gives it to v, part by part. Each part is checked before it is given; that the whole is there
// is known at the end.
func walk(ctx context.Context, r io.Reader, v visitor) (Summary, error) {
	b, err := newReader(r)
	if err != nil {
		return Summary{}, err
	}
	if b.kind != kindManifest {
		return Summary{}, b.damaged("it is not the manifest")
	}
	s, err := decodeSummary(b.body)
	if err != nil {
		return s, b.damaged("%v", err)
	}
	if err := b.take(); err != nil {
		return s, err
	}
	for b.kind == kindBlob && err == nil {
		s.Blobs++
		err = b.blob(ctx, v)
	}
	for b.kind == kindRecords && err == nil {
		err = b.records(ctx, v, &s.Records)
	}
	if err == nil && s.History {
		s.Samples, err = b.history(ctx, v)
	}
	if err == nil && s.Journal {
		s.Entries, err = b.journal(ctx, v)
	}
	if err != nil {
		return s, err
	}
	return s, b.end(&s)
}

// end checks the totals, and that nothing is behind them.
func (b *reader) end(s *Summary) error {
	if b.kind != kindEnd {
		return b.damaged("here is not its place")
	}
	var t totals
	if err := json.Unmarshal(b.body, &t); err != nil {
		return b.damaged("%v", err)
	}
	if want := (totals{Records: s.Records, Blobs: s.Blobs, Samples: s.Samples, Entries: s.Entries, Size: b.at}); t != want {
		return b.damaged("it was written with %+v, here are %+v", t, want)
	}
	s.Size = b.next
	if _, err := b.r.ReadByte(); !errors.Is(err, io.EOF) {
		if err != nil {
			return err
		}
		b.at = b.next
		return b.damaged("something is behind its end")
	}
	return nil
}

func (b *reader) blob(ctx context.Context, v visitor) error {
	var head blobHead
	if err := json.Unmarshal(b.body, &head); err != nil || head.Size < 0 || head.Size > storage.MaxBlob {
		return b.damaged("blob of %d bytes, %v", head.Size, err)
	}
	if err := errors.Join(ctx.Err(), b.take()); err != nil {
		return err
	}
	data := make([]byte, head.Size)
	in := &section{b: b, kind: kindData}
	if _, err := io.ReadFull(in, data); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return b.damaged("blob %s is cut", head.Digest)
		}
		return err
	}
	if in.open { // its last frame is read, and must have been used up
		if len(in.rest) > 0 {
			return b.damaged("blob %s is longer than %d bytes", head.Digest, head.Size)
		}
		if err := b.take(); err != nil {
			return err
		}
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != head.Digest {
		return b.damaged("the content of blob %s is another", head.Digest)
	}
	return v.blob(head.Digest, data)
}

func (b *reader) records(ctx context.Context, v visitor, n *uint64) error {
	for rest := b.body; len(rest) > 0; {
		table, after, ok1 := cutPart(rest)
		key, after, ok2 := cutPart(after)
		value, after, ok3 := cutPart(after)
		if !ok1 || !ok2 || !ok3 || own[storage.Table(table)] {
			return b.damaged("record %d is malformed", *n)
		}
		rest = after
		*n++
		if err := errors.Join(ctx.Err(), v.record(storage.Table(table), string(key), value)); err != nil {
			return err
		}
	}
	return b.take()
}

func (b *reader) history(ctx context.Context, v visitor) (n uint64, err error) {
	err = b.export(kindHistory, func(r io.Reader) error {
		_, n, err = history.ReadExport(r, func(samples []storage.TwinSamples) error {
			return errors.Join(ctx.Err(), v.samples(samples))
		})
		return err
	})
	return n, err
}

func (b *reader) journal(ctx context.Context, v visitor) (n uint64, err error) {
	err = b.export(kindJournal, func(r io.Reader) error {
		_, _, n, err = journal.ReadExport(r, func(e *storage.JournalEntry) error { return errors.Join(ctx.Err(), v.entry(e)) })
		return err
	})
	return n, err
}

// export reads the frames of a kind, which must be an export and nothing more.
func (b *reader) export(kind byte, read func(io.Reader) error) error {
	if b.kind != kind {
		return b.damaged("%s is missing", kindNames[kind])
	}
	in := &section{b: b, kind: kind}
	err := read(in)
	if errors.Is(err, history.ErrDamaged) && !errors.Is(err, ErrDamaged) {
		return b.damaged("%v", err)
	}
	if err != nil {
		return err
	}
	more, err := io.Copy(io.Discard, in)
	if err == nil && more > 0 {
		err = b.damaged("%d bytes behind the export", more)
	}
	return err
}
