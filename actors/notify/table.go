package notify

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/drivers/cron"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// maxColumns and maxRows of a table; maxTable in bytes.
	maxColumns, maxRows = 200, 10_000
	maxTable            = 8 << 20
	// Of a table that does not say.
	defaultSince, defaultStep = 24 * time.Hour, time.Hour
)

// column of a table: a property of a twin, with a value for each row, NaN where there is none.
type column struct {
	title  string
	values []float64
}

// sheet is a table of history.
type sheet struct {
	title   string
	times   []time.Time
	columns []column
}

// CheckTable says what is wrong with a table of history, or nil.
func CheckTable(t *pb.HistoryTable) error {
	if t == nil {
		return nil
	}
	if _, err := cron.Zone(t.Zone); err != nil {
		return wrong("/zone", "%v", err)
	}
	since, step := spans(t)
	if rows := since / step; rows > maxRows {
		return wrong("/step", "%s makes %d rows of %s, %d are the most", step, rows, since, maxRows)
	}
	if !slices.Contains([]string{"", "avg", "min", "max", "sum", "count", "first", "last"}, t.Aggregate) {
		return wrong("/aggregate", "%q is none of avg, min, max, sum, count, first, last", t.Aggregate)
	}
	return nil
}

func spans(t *pb.HistoryTable) (since, step time.Duration) {
	since, step = defaultSince, defaultStep
	if t.Since != nil {
		since = t.Since.AsDuration()
	}
	if t.Step != nil {
		step = t.Step.AsDuration()
	}
	return since, min(step, since)
}

// table makes an attachment of what properties were before the message's time. The same message gives the same table, as long as the
// history keeps it.
func (h *Host) table(ctx context.Context, n *pb.Notification, t *pb.HistoryTable) (data []byte, kind string, err error) {
	project, _, _ := strings.Cut(n.Notifier, "/")
	of := t.Of
	if of == nil && n.Twin != "" {
		of = &pb.Selection{Twins: []string{n.Twin}}
	}
	twins, err := h.o.Selected(project, of)
	if err != nil {
		return nil, "", err
	}
	if len(twins) > maxColumns {
		return nil, "", fmt.Errorf("%w: the table would be of %d twins, %d are the most", errRefused, len(twins), maxColumns)
	}
	zone, err := cron.Zone(t.Zone)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errRefused, err)
	}
	s := &sheet{}
	since, step := spans(t)
	for _, property := range t.Properties {
		if len(twins) == 0 {
			break
		}
		res, err := h.o.Series(ctx, &pb.QuerySeriesRequest{Filter: &pb.TwinFilter{Project: project, Ids: twins}, Property: property, Aggregate: t.Aggregate, PageSize: maxColumns,
			Start: timestamppb.New(n.Time.AsTime().Add(step - since)), End: n.Time, Step: durationpb.New(step)})
		if err != nil {
			return nil, "", fmt.Errorf("history of %s: %w", property, err)
		}
		s.add(property, res, zone)
	}
	end := n.Time.AsTime().In(zone)
	s.title = fmt.Sprintf("%s, %s to %s", strings.Join(t.Properties, ", "), end.Add(-since).Format("2006-01-02 15:04"), end.Format("2006-01-02 15:04 MST"))
	if t.Format == pb.TableFormat_TABLE_FORMAT_HTML {
		data, err = s.html()
		kind = "text/html; charset=utf-8"
	} else {
		data, err = s.csv()
		kind = "text/csv; charset=utf-8"
	}
	if len(data) > maxTable {
		return nil, "", fmt.Errorf("%w: the table has %d bytes, %d are the most", errRefused, len(data), maxTable)
	}
	return data, kind, err
}

// add adds the columns of a property. A series without values is left out.
func (s *sheet) add(property string, res *pb.QuerySeriesResponse, zone *time.Location) {
	for _, x := range res.Series {
		if !slices.ContainsFunc(x.Values, func(v float64) bool { return !math.IsNaN(v) }) {
			continue
		}
		for i := len(s.times); i < len(x.Values); i++ {
			s.times = append(s.times, res.Start.AsTime().Add(time.Duration(i)*res.Step.AsDuration()).In(zone))
		}
		_, name, _ := strings.Cut(x.Twin, "/")
		title := name + "." + property
		if x.Unit != "" {
			title += " (" + x.Unit + ")"
		}
		s.columns = append(s.columns, column{title, x.Values})
	}
}

// cells are a row: the time, and a text for each column.
func (s *sheet) cells(row int) []string {
	all := []string{s.times[row].Format(time.RFC3339)}
	for _, c := range s.columns {
		text := ""
		if row < len(c.values) && !math.IsNaN(c.values[row]) {
			text = strconv.FormatFloat(c.values[row], 'g', 10, 64)
		}
		all = append(all, text)
	}
	return all
}

func (s *sheet) heads() []string {
	all := []string{"time"}
	for _, c := range s.columns {
		all = append(all, c.title)
	}
	return all
}

func (s *sheet) csv() ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.UseCRLF = true
	err := w.Write(s.heads())
	for i := 0; i < len(s.times) && err == nil; i++ {
		err = w.Write(s.cells(i))
	}
	w.Flush()
	if err == nil {
		err = w.Error()
	}
	return b.Bytes(), err
}

// page is a table as HTML that stands alone.
var page = template.Must(template.New("table").Parse(`<!doctype html>
<meta charset="utf-8">
<title>{{.Title}}</title>
<style>body{font:14px sans-serif}table{border-collapse:collapse}th,td{padding:4px 10px;border-bottom:1px solid #ccc;text-align:right}th:first-child,td:first-child{text-align:left}</style>
<h1>{{.Title}}</h1>
{{if .Rows}}<table>
<tr>{{range .Heads}}<th>{{.}}</th>{{end}}</tr>
{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>
{{end}}</table>
{{else}}<p>There are no values.</p>
{{end}}`))

func (s *sheet) html() ([]byte, error) {
	rows := make([][]string, len(s.times))
	for i := range rows {
		rows[i] = s.cells(i)
	}
	var b bytes.Buffer
	err := page.Execute(&b, map[string]any{"Title": s.title, "Heads": s.heads(), "Rows": rows})
	return b.Bytes(), err
}
