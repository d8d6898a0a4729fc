package rpc_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmstorage"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/parquet-go/parquet-go"

	"github.com/polluxhq/pollux/storage/history"
)

// thin is by how much a test does less under the race detector.
var thin = 1

const (
	// A large export is of so many twins (thin: fewer) with so many samples of one property each, a second apart.
	exportTwins   = 20
	exportSamples = 100_000
	// exportHeld is how many bytes an export may hold beside what was there before it, and groupHeld one that gathers groups of rows; the
	// whole is of more, as text and in columns.
	exportHeld = 24 << 20
	groupHeld  = 48 << 20
)

// TestExportIsFlat: what a node holds while it exports two million samples does not grow with them, in any format, and none is missing.
func TestExportIsFlat(t *testing.T) {
	h, p, samples := openHouse(t), fresh("bulk"), exportTwins/thin*exportSamples
	begin := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	fillPast(p, begin)
	last := begin.Add(exportSamples * time.Second)
	for format, lines := range map[string]int{"csv": samples + 1, "json": samples} {
		w := &heapWatch{}
		if got := exportOf(t, h, p, format, begin, last, w); got != lines {
			t.Errorf("%s: %d lines, want %d", format, got, lines)
		}
		w.judge(t, format, 100<<20/thin)
	}
	var file bytes.Buffer
	w := &heapWatch{own: &file}
	exportOf(t, h, p, "parquet", begin, last, io.MultiWriter(w, &file))
	w.judge(t, "parquet", 1<<20/thin)
	f, err := parquet.OpenFile(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil || f.NumRows() != int64(samples) {
		t.Errorf("parquet: %v rows, %v", f.NumRows(), err)
	}
}

// TestExportOfNoTwin: one that there is not is said to be none, also by an export that could be empty.
func TestExportOfNoTwin(t *testing.T) {
	h, p := openHouse(t), fresh("none")
	h.echo(t, p+"/new")
	for query, want := range map[string]int{"twin=new": 200, "twin=new&what=journal&kind=event": 200, "": 200, "twin=never": 404, "twin=never&what=journal": 404,
		"twin=new&twin=never&format=parquet": 404} {
		if status, text, _ := h.get(t, "/v1/history/"+p+"/export?"+query, h.admin); status != want || want == 404 && !strings.Contains(text, "never") {
			t.Errorf("%s: %d %.200s", query, status, text)
		}
	}
}

// fillPast writes the samples where the node's history writes them; by the doors they would take minutes.
func fillPast(project string, begin time.Time) {
	rows := make([]vm.MetricRow, 0, 10_000)
	for twin := range exportTwins / thin {
		var name []byte
		for _, l := range [][2]string{{"", history.Metric}, {"project", project}, {"twin", fmt.Sprintf("t%02d", twin)}, {"model", "meter"}, {"property", "power"}} {
			for _, part := range l {
				name = append(append(name, byte(len(part)>>8), byte(len(part))), part...)
			}
		}
		for i := range exportSamples {
			rows = append(rows, vm.MetricRow{MetricNameRaw: name, Timestamp: begin.Add(time.Duration(i) * time.Second).UnixMilli(), Value: float64(i%1000) / 7})
			if len(rows) == cap(rows) {
				if err := vmstorage.VMInsertAPI.WriteRows(rows); err != nil {
					panic(err)
				}
				rows = rows[:0]
			}
		}
	}
	vmstorage.DebugFlush() // else rows show after some seconds
}

// exportOf reads an export, passes it on to w, where not nil, and counts its lines.
func exportOf(t *testing.T, h *house, project, format string, start, end time.Time, w io.Writer) (lines int) {
	t.Helper()
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	res, err := h.http(h.admin).Get(fmt.Sprintf("%s/v1/history/%s/export?format=%s&start=%s&end=%s", h.url, project, format, at(start), at(end)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(res.Body)
		t.Fatalf("%s: %s", res.Status, body)
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := res.Body.Read(buf)
		lines += bytes.Count(buf[:n], []byte{'\n'})
		if w != nil {
			_, _ = w.Write(buf[:n])
		}
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatalf("after %d lines: %v", lines, err)
		}
	}
}

// heapWatch looks at what lives on the heap, of client and node together, at the start of an export and each time that more of it was read.
type heapWatch struct {
	before, most uint64
	read, next   int
	own          *bytes.Buffer // what the test itself keeps of the export
}

func (w *heapWatch) Write(b []byte) (int, error) {
	if w.read += len(b); w.read >= w.next {
		w.next = w.read + max(w.read/2, 256<<10)
		lives := ^uint64(0)
		for range 5 { // what is made while the collector looks for what lives, it takes for alive
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			if lives = min(lives, m.HeapAlloc); w.before > 0 && int64(lives)-int64(w.before) <= w.allowed() {
				break
			}
		}
		if w.before == 0 {
			w.before = lives
		}
		w.most = max(w.most, lives)
	}
	return len(b), nil
}

// allowed is how many bytes more than at the start may live.
func (w *heapWatch) allowed() int64 {
	if w.own != nil {
		return groupHeld + int64(w.own.Cap())
	}
	return exportHeld
}

func (w *heapWatch) judge(t *testing.T, format string, atLeast int) {
	t.Helper()
	held, allowed := int64(w.most)-int64(w.before), w.allowed()
	t.Logf("%s: %d MB read, at most %.1f MB more on the heap than at its start", format, w.read/1e6, float64(held)/1e6)
	if w.read < atLeast {
		t.Errorf("%s: only %d bytes were read", format, w.read)
	}
	if held > allowed {
		t.Errorf("%s: %d bytes of the export were held, want at most %d", format, held, allowed)
	}
}
