package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func importCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:   "import",
		Short: "Make twins, zones or systems of a CSV file's lines",
		Example: `  pollux import twins lamps.csv --dry-run
  pollux import zones rooms.csv`,
	}))
	for _, k := range importKinds {
		cmd.AddCommand(importKind(a, k))
	}
	return cmd
}

// csvKind says how a line becomes a record.
type csvKind struct {
	name, columns, example string
	record                 func(column, value string, rec *pb.ConfigRecord) error
	empty                  func() *pb.ConfigRecord
}

var importKinds = []csvKind{
	{"twins", `id, driver or model, uri, zone, via, selector, stopped, labels.NAME, settings.NAME, aliases (NETWORK:KEY:VALUE, several with
";" between)`, "id,driver,uri,labels.floor,settings.password\nbeamer-1,pjlink,tcp://10.0.0.7:4352,2,secret", twinColumn,
		func() *pb.ConfigRecord { return &pb.ConfigRecord{Record: &pb.ConfigRecord_Twin{Twin: &pb.Twin{}}} }},
	{"zones", "id, parent, kind, title", "id,parent,kind,title\nhq,,building,Headquarters\naula,hq,room,Great hall", zoneColumn,
		func() *pb.ConfigRecord { return &pb.ConfigRecord{Record: &pb.ConfigRecord_Zone{Zone: &pb.Zone{}}} }},
	{"systems", `id, title, zone, members (NAME=TWIN, several with ";" between)`, "id,zone,members\nroom1,aula,Display_1=beamer-1;Lights_1=lamp1",
		systemColumn, func() *pb.ConfigRecord {
			return &pb.ConfigRecord{Record: &pb.ConfigRecord_System{System: &pb.System{}}}
		}},
}

func importKind(a *app, k csvKind) *cobra.Command {
	var project string
	var dry bool
	cmd := &cobra.Command{
		Use:   k.name + " FILE",
		Short: "Make " + k.name + " of a CSV file's lines",
		Long: "The first line names the columns: " + k.columns + ".\nA line becomes a record, new or in the place of the one with its id; each line for itself: those that are wrong are\n" +
			"listed with their number and why, and the others are committed. For example:\n\n" + k.example,
		Example: "  pollux import " + k.name + " " + k.name + ".csv --dry-run\n  pollux import " + k.name + " - < " + k.name + ".csv",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := a.in
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("import: %w", err)
				}
				defer f.Close()
				in = f
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			return a.importCSV(cmd.Context(), n, in, args[0], k, project, dry)
		},
	}
	cmd.Flags().StringVar(&project, "project", "default", "project of the records")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what is wrong, and what would change")
	return cmd
}

// progressEach is how often an import tells how far it is.
const progressEach = 2 * time.Second

// importCSV reads lines and brings them to the node some at a time: its memory does not grow with the file.
func (a *app) importCSV(ctx context.Context, n *node, in io.Reader, name string, k csvKind, project string, dry bool) error {
	r := csv.NewReader(in)
	r.ReuseRecord, r.FieldsPerRecord = true, -1
	columns, err := r.Read()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is empty: its first line names the columns: %s", name, k.columns)
	} else if err != nil {
		return fmt.Errorf("%s: the line that names the columns: %w", name, err)
	}
	columns = slices.Clone(columns)
	columns[0] = strings.TrimPrefix(columns[0], "\ufeff") // Excel writes a mark before the first
	if err := checkColumns(columns, k); err != nil {
		return fmt.Errorf("%s:1: %w", name, err)
	}
	tally := &applyTally{a: a, dry: dry, count: map[pb.ApplyOutcome]int{}}
	last := time.Now()
	var group []*planLine
	send := func() error {
		if len(group) == 0 {
			return nil
		}
		err := a.importGroup(ctx, n, group, tally, project, dry)
		if group = group[:0]; err == nil && time.Since(last) > progressEach {
			last = time.Now()
			fmt.Fprintf(a.err, "%d lines\n", tally.total)
		}
		return err
	}
	made := map[string]bool{}
	seed, seen := maphash.MakeSeed(), map[uint64]int{} // ids by their hash, to the line
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		line, _ := r.FieldPos(0)
		at := fmt.Sprintf("%s:%d", name, line)
		if err != nil {
			if err := tally.add(&pb.ApplyResult{Kind: "line", Id: fmt.Sprint(line), Outcome: pb.ApplyOutcome_APPLY_OUTCOME_REFUSED, Error: err.Error()}, name); err != nil {
				return err
			}
			continue
		}
		rec, err := csvRecord(k, columns, fields)
		id, refs := namesIn(rec, project)
		kind := strings.TrimSuffix(k.name, "s")
		if err != nil && (id == "" || !utf8.ValidString(id)) {
			kind, id = "line", fmt.Sprint(line)
		}
		if h := maphash.String(seed, id); err == nil && seen[h] > 0 {
			err = fmt.Errorf("it is in line %d already", seen[h])
		} else if err == nil {
			seen[h] = line
		}
		if err != nil {
			if err := tally.add(&pb.ApplyResult{Kind: kind, Id: id, Outcome: pb.ApplyOutcome_APPLY_OUTCOME_REFUSED, Error: err.Error()}, at); err != nil {
				return err
			}
			continue
		}
		if len(group) == groupSize || slices.ContainsFunc(refs, func(ref string) bool { return made[ref] }) {
			if err := send(); err != nil {
				return err
			}
			clear(made)
		}
		made[kind+"/"+id] = true
		group = append(group, &planLine{at: at, id: id, rec: rec, refs: refs})
	}
	if err := send(); err != nil {
		return err
	}
	return tally.end(tally.total)
}

func (a *app) importGroup(ctx context.Context, n *node, group []*planLine, tally *applyTally, project string, dry bool) error {
	r := &pb.ApplyRequest{Project: project, DryRun: dry, Each: true}
	for _, l := range group {
		r.Records = append(r.Records, l.rec)
	}
	res, err := n.bulk.Apply(ctx, req(r))
	if err != nil {
		return fmt.Errorf("%s: %w; the %d lines before it are done", group[0].at, err, tally.total)
	}
	for i, x := range res.Msg.Results {
		if a.table() && x.Outcome != pb.ApplyOutcome_APPLY_OUTCOME_REFUSED && !dry {
			tally.count[x.Outcome]++
			tally.total++
			continue // a line for each would hide those that are wrong
		}
		if err := tally.add(x, group[i].at); err != nil {
			return err
		}
	}
	return nil
}

var (
	errColumn = errors.New("no such column")
	errUTF8   = errors.New("is not UTF-8: save the file as UTF-8")
)

// checkColumns says what is wrong with the line that names the columns.
func checkColumns(columns []string, k csvKind) error {
	head := strings.Join(columns, ", ")
	switch {
	case !utf8.ValidString(head):
		return errUTF8
	case len(columns) == 1 && strings.ContainsAny(head, ";\t"):
		return fmt.Errorf("there is one column, %q: cells are separated by commas", head)
	case !slices.Contains(columns, "id"):
		return fmt.Errorf("no column is called id; there are %s", head)
	}
	for i, c := range columns {
		if err := k.record(c, "", k.empty()); err != nil && errors.Is(err, errColumn) {
			return fmt.Errorf("column %q: want %s", c, k.columns)
		}
		if slices.Contains(columns[:i], c) {
			return fmt.Errorf("column %q is named twice", c)
		}
	}
	return nil
}

// csvRecord makes a record of a line. An empty cell is a field that is not set.
func csvRecord(k csvKind, columns, fields []string) (*pb.ConfigRecord, error) {
	rec := k.empty()
	if len(fields) != len(columns) {
		return rec, fmt.Errorf("%d cells, and %d columns are named", len(fields), len(columns))
	}
	var first error
	for i, c := range columns {
		if value := strings.Clone(fields[i]); value != "" {
			err := k.record(c, value, rec)
			if !utf8.ValidString(value) {
				err = errUTF8
			}
			if err != nil && first == nil {
				first = fmt.Errorf("%s: %w", c, err)
			}
		}
	}
	if id, _ := namesIn(rec, ""); first == nil && id == "" {
		first = errors.New("id is empty")
	}
	return rec, first
}

func twinColumn(column, value string, rec *pb.ConfigRecord) error {
	t := rec.GetTwin()
	if name, ok := strings.CutPrefix(column, "labels."); ok && name != "" {
		if t.Labels == nil {
			t.Labels = map[string]string{}
		}
		t.Labels[name] = value
		return nil
	}
	if name, ok := strings.CutPrefix(column, "settings."); ok && name != "" {
		if t.Settings == nil {
			t.Settings = &structpb.Struct{Fields: map[string]*structpb.Value{}}
		}
		t.Settings.Fields[name] = cellValue(value)
		return nil
	}
	switch column {
	case "id":
		t.Id = value
	case "driver":
		t.Driver = value
	case "model":
		t.Model = value
	case "uri":
		t.Uri = value
	case "zone":
		t.Zone = value
	case "via":
		t.Via = value
	case "selector":
		t.Selector = value
	case "stopped":
		switch strings.ToLower(value) {
		case "true", "yes", "1":
			t.Stopped = true
		case "", "false", "no", "0":
		default:
			return fmt.Errorf("%q: want true or false", value)
		}
	case "aliases":
		for _, one := range strings.FieldsFunc(value, func(r rune) bool { return r == ';' }) {
			p := strings.SplitN(strings.TrimSpace(one), ":", 3)
			if len(p) != 3 {
				return fmt.Errorf("%q: want NETWORK:KEY:VALUE", one)
			}
			t.Aliases = append(t.Aliases, &pb.Alias{Network: p[0], Key: p[1], Value: p[2]})
		}
	default:
		return errColumn
	}
	return nil
}

// cellValue is a cell as JSON where it is, else as text.
func cellValue(cell string) *structpb.Value {
	var v any
	if err := json.Unmarshal([]byte(cell), &v); err == nil {
		if x, err := structpb.NewValue(v); err == nil {
			return x
		}
	}
	return structpb.NewStringValue(cell)
}

func zoneColumn(column, value string, rec *pb.ConfigRecord) error {
	z := rec.GetZone()
	switch column {
	case "id":
		z.Id = value
	case "parent":
		z.Parent = value
	case "kind":
		z.Kind = value
	case "title":
		z.Title = value
	default:
		return errColumn
	}
	return nil
}

func systemColumn(column, value string, rec *pb.ConfigRecord) error {
	s := rec.GetSystem()
	switch column {
	case "id":
		s.Id = value
	case "title":
		s.Title = value
	case "zone":
		s.Zone = value
	case "members":
		for _, one := range strings.FieldsFunc(value, func(r rune) bool { return r == ';' }) {
			name, twin, ok := strings.Cut(strings.TrimSpace(one), "=")
			if !ok || name == "" || twin == "" {
				return fmt.Errorf("%q: want NAME=TWIN", one)
			}
			s.Members = append(s.Members, &pb.System_Member{Name: name, Twin: twin})
		}
	default:
		return errColumn
	}
	return nil
}
