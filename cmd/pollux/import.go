package main

import (
	"context"
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
		Short: "Make twins, zones, systems or aliases of a list, CSV or YAML",
		Example: `  pollux import twins lamps.csv --dry-run
  pollux import zones rooms.yaml`,
	}))
	for _, k := range importKinds {
		cmd.AddCommand(importKind(a, k))
	}
	return cmd
}

// listKind says how an item of a list becomes a record.
type listKind struct {
	name, one, columns, example string
	must                        []string // columns without which there is no record
	record                      func(column, value string, rec *pb.ConfigRecord) error
	empty                       func() *pb.ConfigRecord
	names                       func(rec *pb.ConfigRecord, project string) (id string, refs []string)
	// send gives the node lines in another way than as records; nil: they are applied.
	send func(ctx context.Context, a *app, n *node, group []*planLine, tally *applyTally, project string, dry bool) error
}

func noTwin() *pb.ConfigRecord {
	return &pb.ConfigRecord{Record: &pb.ConfigRecord_Twin{Twin: &pb.Twin{}}}
}

var importKinds = []listKind{
	{"twins", "twin", `id, driver or model, uri, zone, via, system, selector, stopped, labels.NAME, settings.NAME, derived.NAME (an expression),
aliases (NETWORK:KEY:VALUE, several with ";" between), reads (of a logic: TOPIC=CHANNEL, several with ";" between)`, "id,driver,uri,labels.floor,settings.password\nbeamer-1,pjlink,tcp://10.0.0.7:4352,2,secret", []string{"id"}, twinColumn, noTwin, namesIn, nil},
	{"zones", "zone", "id, parent, kind, title, place (LATITUDE,LONGITUDE, in quotes)", "id,parent,kind,title\nhq,,building,Headquarters\naula,hq,room,Great hall", []string{"id"}, zoneColumn,
		func() *pb.ConfigRecord { return &pb.ConfigRecord{Record: &pb.ConfigRecord_Zone{Zone: &pb.Zone{}}} }, namesIn, nil},
	{"systems", "system", `id, title, zone, members (NAME=TWIN, several with ";" between)`, "id,zone,members\nroom1,aula,Display_1=beamer-1;Lights_1=lamp1",
		[]string{"id"}, systemColumn, func() *pb.ConfigRecord {
			return &pb.ConfigRecord{Record: &pb.ConfigRecord_System{System: &pb.System{}}}
		}, namesIn, nil},
	{"aliases", "alias", "network, key, value, twin (which is there and keeps its others)", "network,key,value,twin\nlora,deveui,a84041000181c061,meter-1",
		[]string{"network", "key", "value", "twin"}, aliasColumn, noTwin, aliasNames, importAliases},
}

func importKind(a *app, k listKind) *cobra.Command {
	var project string
	var dry bool
	cmd := &cobra.Command{
		Use:   k.name + " FILE",
		Short: "Make " + k.name + " of a list, CSV or YAML",
		Long: "The first line of CSV names the columns: " + k.columns + ".\nA line becomes a record, new or in the place of the one with its id, of which nothing is left that has no column or an empty\n" +
			"cell; each line for itself: those that are wrong are listed with their number and why, and the others are committed. For example:\n\n" + k.example + "\n\n" +
			"A file .yaml is a list of such items, with the columns as fields:\n\n" + k.yaml(),
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
			return a.importList(cmd.Context(), n, in, args[0], k, project, dry)
		},
	}
	cmd.Flags().StringVar(&project, "project", "default", "project of the records")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what is wrong, and what would change")
	return cmd
}

// progressEach is how often an import tells how far it is.
const progressEach = 2 * time.Second

// yaml is the example's last line as an item of YAML.
func (k *listKind) yaml() string {
	lines := strings.Split(k.example, "\n")
	columns, cells := strings.Split(lines[0], ","), strings.Split(lines[len(lines)-1], ",")
	fields := make([]string, len(columns))
	for i, c := range columns {
		fields[i] = c + ": " + cells[i]
		if strings.Contains(cells[i], ";") {
			fields[i] = c + ": [" + strings.ReplaceAll(cells[i], ";", ", ") + "]"
		}
	}
	return "- {" + strings.Join(fields, ", ") + "}"
}

// importList reads items and brings them to the node some at a time.
func (a *app) importList(ctx context.Context, n *node, in io.Reader, name string, k listKind, project string, dry bool) error {
	next, err := openList(in, name, k)
	if err != nil {
		return err
	}
	tally := newTally(a, dry)
	last := time.Now()
	progress := func() {
		if time.Since(last) > progressEach {
			last = time.Now()
			fmt.Fprintf(a.err, "%d lines\n", tally.total)
		}
	}
	var group []*planLine
	var asked [][]*planLine // of a dry run, which looks at them one after the other
	send := func() (err error) {
		switch {
		case len(group) == 0:
			return nil
		case k.send != nil:
			err = k.send(ctx, a, n, group, tally, project, dry)
		case dry:
			asked, group = append(asked, group), nil
			return nil
		default:
			err = importGroup(ctx, a, n, group, tally, project)
		}
		if group = group[:0]; err == nil {
			progress()
		}
		return err
	}
	made := map[string]bool{}
	seed, seen := maphash.MakeSeed(), map[uint64]int{} // ids by their hash, to the line
	for {
		item, err := next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		at := fmt.Sprintf("%s:%d", name, item.line)
		rec, err := item.record(k)
		id, refs := k.names(rec, project)
		kind := k.one
		if err != nil && (id == "" || !utf8.ValidString(id)) {
			kind, id = "line", fmt.Sprint(item.line)
		}
		if h := maphash.String(seed, id); err == nil && seen[h] > 0 {
			err = fmt.Errorf("it is in line %d already", seen[h])
		} else if err == nil {
			seen[h] = item.line
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
	err = tally.dryRun(ctx, n, project, asked, true, func(x *pb.ApplyResult, at string) error {
		err := tally.add(x, at)
		progress()
		return err
	})
	if err != nil {
		return err
	}
	return tally.end(tally.total)
}

// importGroup has the node make records.
func importGroup(ctx context.Context, a *app, n *node, group []*planLine, tally *applyTally, project string) error {
	results, err := tally.group(ctx, n, project, group, true)
	for i, x := range results {
		if err := a.imported(x, tally, group[i].at, false); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w; the %d lines before it are done", group[len(results)].at, err, tally.total)
	}
	return nil
}

// imported counts what became of a line, and prints it where it has to be seen: a line for each would hide those that are wrong.
func (a *app) imported(x *pb.ApplyResult, tally *applyTally, at string, dry bool) error {
	if a.table() && x.Outcome != pb.ApplyOutcome_APPLY_OUTCOME_REFUSED && !dry {
		tally.count[x.Outcome]++
		tally.total++
		return nil
	}
	return tally.add(x, at)
}

var (
	errColumn = errors.New("no such column")
	errUTF8   = errors.New("is not UTF-8: save the file as UTF-8")
)

// checkColumns says what is wrong with the line that names the columns.
func checkColumns(columns []string, k listKind) error {
	head := strings.Join(columns, ", ")
	switch {
	case !utf8.ValidString(head):
		return errUTF8
	case len(columns) == 1 && strings.ContainsAny(head, ";\t"):
		return fmt.Errorf("there is one column, %q: cells are separated by commas", head)
	}
	for _, c := range k.must {
		if !slices.Contains(columns, c) {
			return fmt.Errorf("no column is called %s; there are %s", c, head)
		}
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

// record makes a record of an item, as far as it can be read. An empty cell is a field that is not set.
func (x *listItem) record(k listKind) (*pb.ConfigRecord, error) {
	rec, first, filled := k.empty(), x.err, map[string]bool{}
	for i, c := range x.columns[:min(len(x.columns), len(x.cells))] {
		value := strings.Clone(x.cells[i])
		if value == "" {
			continue
		}
		filled[c] = true
		err := k.record(c, value, rec)
		if !utf8.ValidString(value) {
			err = errUTF8
		}
		if errors.Is(err, errColumn) {
			err = fmt.Errorf("%w: want %s", err, k.columns)
		}
		if err != nil && first == nil {
			first = fmt.Errorf("%s: %w", c, err)
		}
	}
	for _, c := range k.must {
		if !filled[c] && first == nil {
			first = fmt.Errorf("%s is empty", c)
		}
	}
	if first == nil {
		first = checkRecord(rec)
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
	if name, ok := strings.CutPrefix(column, "derived."); ok && name != "" {
		if t.Derived == nil {
			t.Derived = map[string]string{}
		}
		t.Derived[name] = value
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
	case "system":
		t.System = value
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
	case "reads":
		t.Reads = topicReadings(strings.FieldsFunc(value, func(r rune) bool { return r == ';' || r == ' ' }))
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
	case "place":
		place, ok := placeOf(value)
		if !ok {
			return fmt.Errorf("%q: want LATITUDE,LONGITUDE in degrees, as in 52.52,13.41", value)
		}
		z.Place = place
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
