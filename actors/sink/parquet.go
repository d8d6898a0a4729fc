package sink

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// parquetRow is a message in a file. Columns after key are those of what twins say, and null of other messages.
type parquetRow struct {
	Offset    int64    `parquet:"offset,delta"`
	Time      int64    `parquet:"time,timestamp(millisecond),delta"`
	Published int64    `parquet:"published,timestamp(millisecond),delta"`
	Key       string   `parquet:"key,dict"`
	ID        string   `parquet:"id"`
	Twin      *string  `parquet:"twin,optional,dict"`
	Kind      *string  `parquet:"kind,optional,dict"`
	Name      *string  `parquet:"name,optional,dict"`
	Number    *float64 `parquet:"number,optional"`
	Type      string   `parquet:"type,dict"`
	Payload   []byte   `parquet:"payload,zstd"`
}

// lake writes batches as Parquet files, by day of the messages' time (UTC):
//
//	project=P/day=2026-01-31/part-OFFSET-ORIGIN.parquet
//	_manifest/OFFSET-ORIGIN.json
//
// OFFSET is that of the batch's first message, 16 hexadecimal digits; ORIGIN, as many, stands for the sink, the topic and the batch (Batch.origin). A
// batch that comes again is the same one, and takes the place of what a try before it has left: so every message is in one file. The
// manifest of a batch is written behind its files: who reads only what manifests name sees whole batches.
type lake struct {
	store objects
	// written are the files of a batch by their day: a try that follows goes on behind them, so that a batch of more days than there is time for in
	// one try comes to its end.
	batch   string
	written map[string]manifestFile
}

// objects keeps the files of a lake.
type objects interface {
	// put makes the object of that name, or replaces it, at once; it is durable then.
	put(ctx context.Context, name string, body []byte, contentType string) error
	close()
}

// manifest tells what a batch is in.
type manifest struct {
	Sink     string         `json:"sink"`
	Topic    string         `json:"topic"`
	First    uint64         `json:"first"`
	Last     uint64         `json:"last"`
	Messages int            `json:"messages"`
	Written  time.Time      `json:"written"`
	Files    []manifestFile `json:"files"`
}

type manifestFile struct {
	Path    string    `json:"path"`
	Rows    int       `json:"rows"`
	Bytes   int       `json:"bytes"`
	MinTime time.Time `json:"minTime"`
	MaxTime time.Time `json:"maxTime"`
}

func (l *lake) Deliver(ctx context.Context, b *Batch) error {
	days := map[string][]*pb.TopicMessage{}
	for _, m := range b.Messages {
		day := timeOf(m).UTC().Format("2006-01-02")
		days[day] = append(days[day], m)
	}
	names := make([]string, 0, len(days))
	for day := range days {
		names = append(names, day)
	}
	slices.Sort(names)
	place := fmt.Sprintf("%016x-%s", b.first(), b.origin())
	if batch := fmt.Sprintf("%s-%016x", place, b.last()); l.batch != batch {
		l.batch, l.written = batch, map[string]manifestFile{}
	}
	out := manifest{Sink: b.Sink, Topic: b.Topic, First: b.first(), Last: b.last(), Messages: len(b.Messages), Written: time.Now().UTC()}
	for _, day := range names {
		if f, ok := l.written[day]; ok {
			out.Files = append(out.Files, f)
			continue
		}
		body, err := parquetOf(days[day])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		f := manifestFile{Path: path.Join("project="+b.project(), "day="+day, "part-"+place+".parquet"),
			Rows: len(days[day]), Bytes: len(body)}
		f.MinTime, f.MaxTime = timeOf(days[day][0]), timeOf(days[day][0])
		for _, m := range days[day] {
			if t := timeOf(m); t.Before(f.MinTime) {
				f.MinTime = t
			} else if t.After(f.MaxTime) {
				f.MaxTime = t
			}
		}
		if err := l.store.put(ctx, f.Path, body, "application/vnd.apache.parquet"); err != nil {
			return err
		}
		l.written[day] = f
		out.Files = append(out.Files, f)
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return l.store.put(ctx, "_manifest/"+place+".json", append(text, '\n'), "application/json")
}

func (l *lake) Close() { l.store.close() }

func parquetOf(all []*pb.TopicMessage) ([]byte, error) {
	rows := make([]parquetRow, len(all))
	for i, m := range all {
		s := saidOf(m)
		rows[i] = parquetRow{Offset: int64(m.Offset), Time: timeOf(m).UnixMilli(), Published: m.PublishTime.AsTime().UnixMilli(), Key: m.Key, ID: m.Id,
			Type: m.ContentType, Payload: m.Payload}
		if s.twin != "" {
			rows[i].Twin, rows[i].Kind, rows[i].Name = &s.twin, &s.kind, &s.name
			if x, ok := s.number(); ok {
				rows[i].Number = &x
			}
		}
	}
	var out bytes.Buffer
	w := parquet.NewGenericWriter[parquetRow](&out, parquet.Compression(&parquet.Zstd))
	if _, err := w.Write(rows); err != nil {
		return nil, fmt.Errorf("write parquet: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write parquet: %w", err)
	}
	return out.Bytes(), nil
}
