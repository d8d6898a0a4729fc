package rpc_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
)

// askExports reads every format back: they have what was sent, neither more nor less, in the times that are asked for.
func (k *known) askExports(t *testing.T) {
	for range 6 {
		start := k.begin.Add(time.Duration(k.random.Int64N(int64(knownSpan)))).Truncate(time.Millisecond)
		end := start.Add(time.Duration(k.random.Int64N(int64(knownSpan))))
		if k.random.IntN(3) == 0 {
			start, end = start.Truncate(time.Minute), end.Truncate(time.Minute)
		}
		samples, texts := k.rows(start.UnixMilli(), end.UnixMilli())
		for _, format := range []string{"csv", "json", "parquet"} {
			for what, want := range map[string][]string{"samples": samples, "journal&kind=value": texts} {
				got := rowsOf(t, format, k.export(t, format, what, start, end))
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("%s of %s from %s to %s: %d rows, want %d", format, what, start, end, len(got), len(want))
					for _, row := range want {
						if !slices.Contains(got, row) {
							t.Fatalf("there is no %q", row)
						}
					}
					t.FailNow()
				}
			}
		}
	}
}

// rows are what an export of a time has to have, sorted.
func (k *known) rows(start, end int64) (samples, texts []string) {
	for _, w := range k.twins {
		_, name, _ := strings.Cut(w.id, "/")
		for property, points := range w.numbers {
			for _, p := range between(points, start-1, end) {
				samples = append(samples, fmt.Sprintln(p.ms, k.project, name, w.title, property, p.value))
			}
		}
		for _, m := range w.modes {
			if m.ms >= start && m.ms <= end {
				texts = append(texts, fmt.Sprintln(m.ms, k.project, name, "value", "mode", m.text))
			}
		}
	}
	slices.Sort(samples)
	slices.Sort(texts)
	return samples, texts
}

// exported is a row in any format, of samples or of the journal.
type exported struct {
	Time     time.Time `parquet:"time,timestamp(millisecond)"`
	Project  string    `parquet:"project"`
	Twin     string    `parquet:"twin"`
	Model    string    `parquet:"model,optional"`
	Property string    `parquet:"property,optional"`
	Value    float64   `parquet:"value,optional"`
	Kind     string    `parquet:"kind,optional"`
	Name     string    `parquet:"name,optional"`
	Data     string    `parquet:"data,optional"`
}

func (e *exported) String() string {
	if e.Kind == "" {
		return fmt.Sprintln(e.Time.UnixMilli(), e.Project, e.Twin, e.Model, e.Property, e.Value)
	}
	var text string
	if err := json.Unmarshal([]byte(e.Data), &text); err != nil {
		text = err.Error()
	}
	return fmt.Sprintln(e.Time.UnixMilli(), e.Project, e.Twin, e.Kind, e.Name, text)
}

// rowsOf reads an export.
func rowsOf(t *testing.T, format, text string) (all []string) {
	t.Helper()
	switch format {
	case "csv":
		lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines[1:] {
			e := exported{}
			for i, name := range lines[0] {
				to := map[string]*string{"project": &e.Project, "twin": &e.Twin, "model": &e.Model, "property": &e.Property, "kind": &e.Kind, "name": &e.Name, "data": &e.Data}[name]
				switch name {
				case "time":
					e.Time, err = time.Parse(time.RFC3339, line[i])
				case "value":
					e.Value, err = strconv.ParseFloat(line[i], 64)
				case "sequence":
				default:
					*to = line[i]
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			all = append(all, e.String())
		}
	case "json":
		for d := json.NewDecoder(strings.NewReader(text)); d.More(); {
			var line struct {
				exported
				Data json.RawMessage
			}
			if err := d.Decode(&line); err != nil {
				t.Fatal(err)
			}
			line.exported.Data = string(line.Data)
			all = append(all, line.exported.String())
		}
	case "parquet":
		f, err := parquet.OpenFile(bytes.NewReader([]byte(text)), int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		rows := make([]exported, f.NumRows())
		if n, err := parquet.NewGenericReader[exported](f).Read(rows); n != len(rows) {
			t.Fatalf("%d of %d rows: %v", n, len(rows), err)
		}
		for i := range rows {
			all = append(all, rows[i].String())
		}
	}
	return all
}
