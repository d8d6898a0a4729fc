package history

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"

	"github.com/polluxhq/pollux/storage"
)

// An export is a line that names the format, a line of JSON about what follows (ExportInfo), and then, in frames, what
// VictoriaMetrics' /api/v1/export/native gives: blocks as they lie on the disk, compressed. Of a server elsewhere, whose
// version's blocks may be others, it is what /api/v1/export gives: lines of JSON.
const (
	exportMagic   = "pollux-history "
	exportVersion = "1"
	maxExportLine = 4 << 10
	// maxNative bounds a name and a block of a native export, in bytes.
	maxNative = 1 << 20
)

var (
	// ErrDamaged: the stream is no export, or not a whole one. What was read of it before is right.
	ErrDamaged = errors.New("damaged history export")
	// ErrNewer: a newer version wrote the export.
	ErrNewer = errors.New("history export of a newer version")
)

// ExportInfo says what an export has.
type ExportInfo struct {
	// Complete: the history that was exported has all samples up to the log entry Through.
	Complete bool   `json:"complete"`
	Through  uint64 `json:"through"`
	// Start and End bound the samples' times, in milliseconds since 1970.
	Start int64 `json:"start"`
	End   int64 `json:"end"`
	// Lines: the samples are lines of JSON, not blocks.
	Lines bool `json:"lines,omitempty"`
}

// Export writes the samples of all twins from start to end, both included, in the form that Backfill and ReadExport read.
// A zero start or end means the retention's. It streams. w must not block for ever: Close waits for it. An error may leave part of an export, which readers refuse.
func (e *Embedded) Export(ctx context.Context, w io.Writer, start, end time.Time) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	e.moving.RLock()
	defer e.moving.RUnlock()
	ctx, cancel := e.lasting(ctx)
	defer cancel()
	info := exportRange(start, end, e.o.Retention)
	// In this order: what is fed before is seen behind.
	info.Complete, info.Through = e.whole.read()
	vmstorage.DebugFlush()
	return writeExport(ctx, w, &e.query, info)
}

// Export is as Embedded's, of the samples that the server has. What waits in the queue is not among them.
func (r *Remote) Export(ctx context.Context, w io.Writer, start, end time.Time) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	info := exportRange(start, end, r.o.Retention)
	info.Complete, info.Lines = true, true
	return writeExport(ctx, w, &r.query, info)
}

// Exporter is what ExportHandler serves: Embedded and Remote.
type Exporter interface {
	Export(ctx context.Context, w io.Writer, start, end time.Time) error
	Complete() bool
}

// ExportHandler serves an Export of everything, to be read by Backfill on another node. While the history is incomplete
// the answer is status 503. Who may come here is the caller's to check. Where it fails in the middle the connection is cut.
func ExportHandler(h Exporter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "only GET", http.StatusMethodNotAllowed)
			return
		}
		if !h.Complete() {
			http.Error(w, ErrIncomplete.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		out := &countWriter{w: w}
		err := h.Export(r.Context(), out, time.Time{}, time.Time{})
		if err == nil {
			return
		}
		if out.n == 0 {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		panic(http.ErrAbortHandler)
	})
}

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func exportRange(start, end time.Time, retention time.Duration) ExportInfo {
	b := boundsAt(time.Now(), retention)
	info := ExportInfo{Start: max(0, b.min), End: b.max}
	if !start.IsZero() {
		info.Start = max(info.Start, start.UnixMilli())
	}
	if !end.IsZero() {
		info.End = min(info.End, end.UnixMilli())
	}
	return info
}

func writeExport(ctx context.Context, w io.Writer, q *querier, info ExportInfo) error {
	line, err := json.Marshal(info)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "%s%s\n%s\n", exportMagic, exportVersion, line); err != nil {
		return fmt.Errorf("export history: %w", err)
	}
	path, args := "/api/v1/export/native", url.Values{"match[]": {Metric}, "start": {seconds(info.Start)}, "end": {seconds(info.End)}}
	if info.Lines {
		path = "/api/v1/export"
		args.Set("max_rows_per_line", strconv.Itoa(rowsPerLine))
	}
	body, err := q.fetch(ctx, request(path, args))
	if err != nil {
		return fmt.Errorf("export history: %w", err)
	}
	defer body.Close()
	defer context.AfterFunc(ctx, func() { _ = body.Close() })()
	frames := newFrameWriter(w)
	if _, err := io.Copy(frames, body); err != nil {
		return fmt.Errorf("export history: %w", err)
	}
	if err := frames.Close(); err != nil {
		return fmt.Errorf("export history: %w", err)
	}
	return nil
}

// ReadExport calls fn with the samples of an export, some thousand of one property of one twin at a time, which belong to
// fn during its call, and gives their number. It stops at fn's error. Its own wrap ErrDamaged or ErrNewer.
func ReadExport(r io.Reader, fn func(samples []storage.TwinSamples) error) (info ExportInfo, samples uint64, err error) {
	info, x, err := openExport(r)
	if err != nil {
		return info, 0, err
	}
	for {
		t, err := x.next()
		if err == io.EOF { //nolint:errorlint // the end, bare
			return info, samples, nil
		}
		if err == nil {
			samples += uint64(len(t[0].Samples))
			err = fn(t)
		}
		if err != nil {
			return info, samples, err
		}
	}
}

// sampleReader gives samples of one property of one twin, which are its own again at the next call; io.EOF, bare, behind
// the last ones.
type sampleReader interface {
	next() ([]storage.TwinSamples, error)
}

// openExport reads an export's head.
func openExport(r io.Reader) (ExportInfo, sampleReader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	info, err := readExportHead(in)
	if err != nil {
		return info, nil, err
	}
	body := bufio.NewReaderSize(&frameReader{r: in}, 64<<10)
	if info.Lines {
		return info, &lineReader{r: body}, nil
	}
	x := &nativeReader{r: body}
	return info, x, x.begin()
}

// lineReader reads lines of an export.
type lineReader struct {
	r       *bufio.Reader
	out     [1]storage.TwinSamples
	samples []storage.Sample
}

func (l *lineReader) next() ([]storage.TwinSamples, error) {
	line, err := l.r.ReadBytes('\n')
	if errors.Is(err, io.EOF) && len(line) == 0 {
		return nil, io.EOF
	}
	if err != nil {
		return nil, broken(err)
	}
	var head struct {
		Metric struct {
			Name     string `json:"__name__"`
			Project  string `json:"project"`
			Twin     string `json:"twin"`
			Model    string `json:"model"`
			Property string `json:"property"`
		} `json:"metric"`
	}
	var unread error
	l.samples = l.samples[:0]
	err = exportLine(line, func(series []byte) func(at int64, v float64) {
		unread = json.Unmarshal(append(bytes.Clone(series), '}'), &head)
		return func(at int64, v float64) {
			l.samples = append(l.samples, storage.Sample{Property: head.Metric.Property, Time: at, Value: v})
		}
	})
	if err = errors.Join(err, unread); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if head.Metric.Name != Metric {
		return nil, fmt.Errorf("%w: it has series %.60q, which are none of twins", ErrDamaged, head.Metric.Name)
	}
	l.out[0] = storage.TwinSamples{Project: head.Metric.Project, Twin: head.Metric.Twin, Model: head.Metric.Model, Samples: l.samples}
	return l.out[:], nil
}

func readExportHead(in *bufio.Reader) (info ExportInfo, err error) {
	magic, err := headLine(in)
	if err != nil {
		return info, err
	}
	version, ok := strings.CutPrefix(magic, exportMagic)
	if !ok {
		return info, fmt.Errorf("%w: it begins with %.40q", ErrDamaged, magic)
	}
	if version != exportVersion {
		return info, fmt.Errorf("%w: it is %s, this version reads %s", ErrNewer, version, exportVersion)
	}
	line, err := headLine(in)
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal([]byte(line), &info); err != nil {
		return info, fmt.Errorf("%w: second line: %w", ErrDamaged, err)
	}
	return info, nil
}

// headLine reads one of the first lines.
func headLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if err != nil || len(line) > maxExportLine {
		return "", fmt.Errorf("%w: no head", ErrDamaged)
	}
	return string(line[:len(line)-1]), nil
}

// nativeReader reads VictoriaMetrics' native format: the range of times, then a series' name and a block of it, each with
// its length before it, again and again.
type nativeReader struct {
	r          *bufio.Reader
	times      vm.TimeRange
	name, body []byte
	mn         vm.MetricName
	block      vm.Block
	at         []int64
	values     []float64
	out        [1]storage.TwinSamples
	samples    []storage.Sample
}

func (n *nativeReader) begin() error {
	var b [16]byte
	if _, err := io.ReadFull(n.r, b[:]); err != nil {
		return broken(err)
	}
	n.times.MinTimestamp, n.times.MaxTimestamp = encoding.UnmarshalInt64(b[:8]), encoding.UnmarshalInt64(b[8:])
	return nil
}

// next gives the samples of the next block; io.EOF behind the last one.
func (n *nativeReader) next() (out []storage.TwinSamples, err error) {
	var size [4]byte
	if _, err := io.ReadFull(n.r, size[:]); err != nil {
		if err == io.EOF { //nolint:errorlint // io.ReadFull gives it bare, where nothing was read
			return nil, io.EOF
		}
		return nil, broken(err)
	}
	if n.name, err = n.bytes(n.name, size); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(n.r, size[:]); err != nil {
		return nil, broken(err)
	}
	if n.body, err = n.bytes(n.body, size); err != nil {
		return nil, err
	}
	if gerr := guarded("read history export", func() { out, err = n.unpack() }); gerr != nil {
		err = fmt.Errorf("%w: %w", ErrDamaged, gerr)
	}
	return out, err
}

func (n *nativeReader) bytes(b []byte, size [4]byte) ([]byte, error) {
	k := binary.BigEndian.Uint32(size[:])
	if k > maxNative {
		return nil, fmt.Errorf("%w: a part of %d bytes", ErrDamaged, k)
	}
	if cap(b) < int(k) {
		b = make([]byte, k)
	}
	b = b[:k]
	if _, err := io.ReadFull(n.r, b); err != nil {
		return nil, broken(err)
	}
	return b, nil
}

func (n *nativeReader) unpack() ([]storage.TwinSamples, error) {
	if err := n.mn.Unmarshal(n.name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if string(n.mn.MetricGroup) != Metric {
		return nil, fmt.Errorf("%w: it has series %.60q, which are none of twins", ErrDamaged, n.mn.MetricGroup)
	}
	tail, err := n.block.UnmarshalPortable(n.body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if len(tail) > 0 {
		return nil, fmt.Errorf("%w: %d bytes behind a block", ErrDamaged, len(tail))
	}
	n.at, n.values = n.block.AppendRowsWithTimeRangeFilter(n.at[:0], n.values[:0], n.times)
	label := func(name string) string { return string(n.mn.GetTagValue(name)) }
	property := label("property")
	n.samples = n.samples[:0]
	for i, at := range n.at {
		n.samples = append(n.samples, storage.Sample{Property: property, Time: at, Value: n.values[i]})
	}
	n.out[0] = storage.TwinSamples{Project: label("project"), Twin: label("twin"), Model: label("model"), Samples: n.samples}
	return n.out[:], nil
}

// broken is the error of a read within the frames.
func broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends in the middle of a block", ErrDamaged)
	}
	return err
}
