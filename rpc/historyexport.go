package rpc

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/storage/journal"
)

// exportPath streams the past of a project. It holds a group of rows in memory, not the export.
const exportPath = "/v1/history/{project}/export"

// maxExports run at once: each reads the disk for as long as it takes.
const maxExports = 4

// groupRows is how many rows of Parquet are gathered before they are written: some megabytes.
const groupRows = 50_000

// exportRow is a row of every format. Samples have a property and a value; journal entries a kind, name, sequence and data.
type exportRow struct {
	Time     time.Time `parquet:"time,timestamp(millisecond)"`
	Project  string    `parquet:"project,dict"`
	Twin     string    `parquet:"twin,dict"`
	Model    string    `parquet:"model,dict"`
	Property string    `parquet:"property,dict"`
	Value    float64   `parquet:"value"`
}

type journalRow struct {
	Time     time.Time `parquet:"time,timestamp(millisecond)"`
	Project  string    `parquet:"project,dict"`
	Twin     string    `parquet:"twin,dict"`
	Kind     string    `parquet:"kind,dict"`
	Name     string    `parquet:"name,dict"`
	Sequence uint64    `parquet:"sequence"`
	Data     string    `parquet:"data,json"`
}

// rowWriter writes one format. Its close writes what it holds, and the format's end.
type rowWriter[R any] interface {
	write(rows []R) error
	close() error
}

var exportTypes = map[string]string{"csv": "text/csv; charset=utf-8", "json": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}

// exportQuery is what the address of an export says.
type exportQuery struct {
	format, what string
	walk         history.WalkQuery
	kinds        []string
}

func readExportQuery(r *http.Request, now time.Time) (*exportQuery, error) {
	query, err := readQuery(r)
	if err != nil {
		return nil, err
	}
	c := &restCall{r: r, query: query}
	if err := only(query, []string{"format", "what", "twin", "property", "kind", "start", "end"}, "twin", "property", "kind"); err != nil {
		return nil, err
	}
	q := &exportQuery{format: c.text("format"), what: c.text("what"), kinds: c.query["kind"]}
	if q.format == "" {
		q.format = "csv"
	}
	if q.what == "" {
		q.what = "samples"
	}
	q.walk = history.WalkQuery{Project: r.PathValue("project"), Properties: c.query["property"], End: now}
	if start, end := c.moment("start"), c.moment("end"); c.bad == nil {
		if end != nil {
			q.walk.End = end.AsTime()
		}
		q.walk.Start = q.walk.End.Add(-24 * time.Hour)
		if start != nil {
			q.walk.Start = start.AsTime()
		}
	}
	for _, twin := range c.query["twin"] {
		project, name, err := splitID(twin)
		if err != nil || strings.Contains(twin, "/") && project != q.walk.Project {
			c.wrong("twin", fmt.Sprintf("%q is no twin of project %s", twin, q.walk.Project))
			break
		}
		q.walk.Twins = append(q.walk.Twins, name)
	}
	switch {
	case c.bad != nil:
		return nil, c.bad
	case !validProject(q.walk.Project):
		return nil, invalid("project", fmt.Sprintf("%q is no project's name", q.walk.Project))
	case exportTypes[q.format] == "":
		return nil, invalid("query.format", "want csv, json or parquet")
	case q.what != "samples" && q.what != "journal":
		return nil, invalid("query.what", "want samples or journal")
	case q.what == "samples" && len(q.kinds) > 0:
		return nil, invalid("query.kind", "is of the journal: what=journal")
	case q.walk.End.Before(q.walk.Start):
		return nil, invalid("query.end", "is before start")
	}
	return q, nil
}

// export streams. What goes wrong before the first byte is a problem; later the connection is cut, so that no half an export is
// taken for a whole.
func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	fail := func(err error) {
		status, p := problemOf(translate(err))
		writeProblem(w, r, status, p)
	}
	q, err := readExportQuery(r, time.Now())
	if err != nil {
		fail(err)
		return
	}
	if len(s.o.Cluster.HistoryNodes()) > 0 {
		w.Header().Set("Retry-After", "5")
		fail(fmt.Errorf("this node's history is not complete yet; ask another node: %w", history.ErrUnavailable))
		return
	}
	out := &begunWriter{w: w}
	buffered := bufio.NewWriterSize(out, 64<<10)
	w.Header().Set("Content-Type", exportTypes[q.format])
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", q.walk.Project+"-"+q.what+"."+map[string]string{"csv": "csv", "json": "ndjson", "parquet": "parquet"}[q.format]))
	if q.what == "journal" {
		err = s.exportJournal(r.Context(), q, buffered)
	} else {
		err = s.exportSamples(r.Context(), q, buffered)
	}
	if err == nil {
		err = buffered.Flush()
	}
	switch {
	case err == nil:
	case out.begun:
		panic(http.ErrAbortHandler)
	default:
		w.Header().Del("Content-Disposition")
		fail(err)
	}
}

// wereThere says which of the twins that have no past in a time is none. One that is gone may have one of another time, but nobody can tell.
func (s *Server) wereThere(q history.WalkQuery) error {
	for _, name := range q.Twins {
		if _, err := s.o.Registry.GetTwin(q.Project + "/" + name); err != nil {
			return fmt.Errorf("nothing of this time, and %w", err)
		}
	}
	return nil
}

// begunWriter knows whether something was written.
type begunWriter struct {
	w     io.Writer
	begun bool
}

func (b *begunWriter) Write(p []byte) (int, error) {
	b.begun = true
	return b.w.Write(p)
}

func (s *Server) exportSamples(ctx context.Context, q *exportQuery, w io.Writer) error {
	out := newRows(q.format, w, []string{"time", "project", "twin", "model", "property", "value"}, func(r *exportRow) []string {
		return []string{stampOf(r.Time), r.Project, r.Twin, r.Model, r.Property, strconv.FormatFloat(r.Value, 'g', -1, 64)}
	}, func(r *exportRow) any {
		return struct {
			Time     string `json:"time"`
			Project  string `json:"project"`
			Twin     string `json:"twin"`
			Model    string `json:"model"`
			Property string `json:"property"`
			Value    any    `json:"value"`
		}{stampOf(r.Time), r.Project, r.Twin, r.Model, r.Property, jsonNumber(r.Value)}
	})
	var rows []exportRow
	some := false
	err := s.o.History.Walk(ctx, q.walk, func(t storage.TwinSamples) error {
		rows, some = rows[:0], some || len(t.Samples) > 0
		for _, x := range t.Samples {
			rows = append(rows, exportRow{time.UnixMilli(x.Time).UTC(), t.Project, t.Twin, t.Model, x.Property, x.Value})
		}
		return out.write(rows)
	})
	if err == nil && !some {
		err = s.wereThere(q.walk)
	}
	return errors.Join(err, closeIf(err, out.close))
}

func (s *Server) exportJournal(ctx context.Context, q *exportQuery, w io.Writer) error {
	out := newRows(q.format, w, []string{"time", "project", "twin", "kind", "name", "sequence", "data"}, func(r *journalRow) []string {
		return []string{stampOf(r.Time), r.Project, r.Twin, r.Kind, r.Name, strconv.FormatUint(r.Sequence, 10), r.Data}
	}, func(r *journalRow) any {
		return struct {
			Time     string          `json:"time"`
			Project  string          `json:"project"`
			Twin     string          `json:"twin"`
			Kind     string          `json:"kind"`
			Name     string          `json:"name"`
			Sequence string          `json:"sequence"`
			Data     json.RawMessage `json:"data"`
		}{stampOf(r.Time), r.Project, r.Twin, r.Kind, r.Name, strconv.FormatUint(r.Sequence, 10), json.RawMessage(r.Data)}
	})
	s.o.Journal.CatchUp(ctx, journalPatience)
	jq := journal.Query{Project: q.walk.Project, Kinds: q.kinds, Names: q.walk.Properties, Start: q.walk.Start.UnixMilli(), End: q.walk.End.UnixMilli(), Limit: 1000}
	if len(q.walk.Twins) == 1 {
		jq.Twin = q.walk.Twins[0]
	} else if len(q.walk.Twins) > 0 {
		jq.Match = func(e *storage.JournalEntry) bool { return slices.Contains(q.walk.Twins, e.Twin) }
	}
	for {
		page, err := s.o.Journal.List(ctx, jq)
		if err != nil {
			return err
		}
		if jq.After == nil && len(page.Entries) == 0 && page.Next == nil {
			if err := s.wereThere(q.walk); err != nil {
				return err
			}
		}
		rows := make([]journalRow, len(page.Entries))
		for i := range page.Entries {
			e := &page.Entries[i]
			data := e.Data
			if len(data) == 0 {
				data = []byte("null")
			}
			rows[i] = journalRow{time.UnixMilli(e.Time).UTC(), e.Project, e.Twin, e.Kind, e.Name, e.Sequence, string(data)}
		}
		if err := out.write(rows); err != nil {
			return err
		}
		if jq.After = page.Next; jq.After == nil {
			return out.close()
		}
	}
}

func closeIf(err error, end func() error) error {
	if err != nil {
		return nil
	}
	return end()
}

func stampOf(t time.Time) string { return t.Format("2006-01-02T15:04:05.000Z") }

// jsonNumber is a number, or a word for what JSON has no number for.
func jsonNumber(v float64) any {
	if text := strconv.FormatFloat(v, 'g', -1, 64); strings.ContainsAny(text, "IN") {
		return text
	}
	return v
}

func newRows[R any](format string, w io.Writer, head []string, fields func(*R) []string, object func(*R) any) rowWriter[R] {
	switch format {
	case "parquet":
		return &parquetRows[R]{w: parquet.NewGenericWriter[R](w, parquet.Compression(&parquet.Zstd))}
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return &jsonRows[R]{e, object}
	}
	c := csv.NewWriter(w)
	return &csvRows[R]{c, head, fields, false}
}

type parquetRows[R any] struct {
	w *parquet.GenericWriter[R]
	n int
}

func (p *parquetRows[R]) write(rows []R) error {
	n, err := p.w.Write(rows)
	if p.n += n; err == nil && p.n >= groupRows {
		p.n = 0
		err = p.w.Flush()
	}
	if err != nil {
		return fmt.Errorf("write parquet: %w", err)
	}
	return nil
}

func (p *parquetRows[R]) close() error { return p.w.Close() }

type jsonRows[R any] struct {
	e      *json.Encoder
	object func(*R) any
}

func (j *jsonRows[R]) write(rows []R) error {
	for i := range rows {
		if err := j.e.Encode(j.object(&rows[i])); err != nil {
			return fmt.Errorf("write json: %w", err)
		}
	}
	return nil
}

func (j *jsonRows[R]) close() error { return nil }

type csvRows[R any] struct {
	w      *csv.Writer
	head   []string
	fields func(*R) []string
	begun  bool
}

func (c *csvRows[R]) begin() error {
	if c.begun {
		return nil
	}
	c.begun = true
	return c.w.Write(c.head)
}

func (c *csvRows[R]) write(rows []R) error {
	err := c.begin()
	for i := 0; i < len(rows) && err == nil; i++ {
		err = c.w.Write(c.fields(&rows[i]))
	}
	return err
}

func (c *csvRows[R]) close() error {
	if err := c.begin(); err != nil {
		return err
	}
	c.w.Flush()
	return c.w.Error()
}
