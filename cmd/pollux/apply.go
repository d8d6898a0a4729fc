package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"buf.build/go/protovalidate"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"gopkg.in/yaml.v3"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// kindNames are the kinds of records in the order in which they are applied.
func kindNames() []string {
	return names(actors.ConfigKinds(), func(k actors.ConfigKind) string { return k.Name })
}

// planLine is a record of a file.
type planLine struct {
	kind, id string
	at       string // FILE:LINE
	rec      *pb.ConfigRecord
	refs     []string // "kind/id" that it names
	depth    int      // how many of the files' own records are above it
}

// groupSize is how many records are committed together at most.
const groupSize = 200

func applyCommand(a *app) *cobra.Command {
	var files []string
	var project string
	var dry bool
	cmd := a.client(&cobra.Command{
		Use:   "apply -f PATH",
		Short: "Make a project's records what files say",
		Long: `Make a project's records what files say: configuration as code.

A file holds YAML documents, each with one record, and below it its id and fields, as "pollux export" writes them. A record is
one of ` + strings.Join(kindNames(), ", ") + `:

  twin:
    id: beamer
    driver: pjlink
    uri: tcp://10.0.0.7:4352

A record becomes what its document says: a field that is not in it is emptied, and what somebody paused goes on
where it does not say "paused: true". What is in no
file is left alone. A secret that reads "***" keeps its value. Applying the same files again changes nothing.

Records are committed in groups, each whole or not at all: kind by kind in the order above, at most ` + fmt.Sprint(groupSize) + ` together, fewer where
they are large. The first group with something wrong in it ends the run; those before it stay.`,
		Example: `  pollux apply -f building/ --dry-run            show what would change
  pollux apply -f building/                      every .yaml and .yml file below the folder
  pollux export default > all.yaml && pollux apply -f all.yaml
  cat twin.yaml | pollux apply -f -`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return usagef("-f is missing: the file or folder to apply, or - for standard input")
			}
			lines, err := a.readConfig(files, project)
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			return a.apply(cmd.Context(), n, lines, project, dry)
		},
	})
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "file, folder, or - for standard input; many times")
	cmd.Flags().StringVar(&project, "project", "default", "project of the records")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would change")
	return cmd
}

// readConfig reads the records of files, in the order in which they are to be applied.
func (a *app) readConfig(files []string, project string) ([]*planLine, error) {
	var all []*planLine
	for _, path := range files {
		names, err := configFiles(path)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			lines, err := a.readConfigFile(name, project)
			if err != nil {
				return nil, err
			}
			all = append(all, lines...)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("apply: there is no record in %s", strings.Join(files, ", "))
	}
	byName := map[string]*planLine{}
	for _, l := range all {
		name := l.kind + "/" + l.id
		if first := byName[name]; first != nil {
			return nil, fmt.Errorf("%s: %s %s is in %s already", l.at, l.kind, l.id, first.at)
		}
		byName[name] = l
	}
	for _, l := range all {
		l.depth = depthOf(l, byName, 0)
	}
	order := kindNames()
	slices.SortStableFunc(all, func(x, y *planLine) int {
		if d := slices.Index(order, x.kind) - slices.Index(order, y.kind); d != 0 {
			return d
		}
		return x.depth - y.depth
	})
	return all, nil
}

// depthOf counts the records of its own kind above a record. A circle ends somewhere: the node will refuse it.
func depthOf(l *planLine, byName map[string]*planLine, depth int) int {
	deepest := 0
	for _, ref := range l.refs {
		if up := byName[ref]; up != nil && up.kind == l.kind && up != l && depth < 64 {
			deepest = max(deepest, 1+depthOf(up, byName, depth+1))
		}
	}
	return deepest
}

// configFiles are the YAML files of a folder, or the file itself.
func configFiles(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var names []string
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(name); err == nil && !d.IsDir() && (ext == ".yaml" || ext == ".yml") {
			names = append(names, name)
		}
		return err
	})
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("apply: there is no .yaml file in %s", path)
	}
	return names, err
}

func (a *app) readConfigFile(name, project string) ([]*planLine, error) {
	in := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("apply: %w", err)
		}
		defer f.Close()
		in = f
	}
	return parseConfig(in, name, project)
}

// parseConfig reads YAML documents, each a ConfigRecord.
func parseConfig(in io.Reader, name, project string) ([]*planLine, error) {
	var lines []*planLine
	for dec := yaml.NewDecoder(in); ; {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
			continue // nothing between two dashes
		}
		line, err := parseRecord(doc.Content[0], name, project)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
}

// beside is what `get -o yaml` prints beside a record: what is so printed can be applied.
var beside = map[string][]string{"rule": {"state"}, "schedule": {"state", "next", "runs"}, "topic": {"channels"}}

func parseRecord(n *yaml.Node, name, project string) (*planLine, error) {
	at := func(line int) string { return fmt.Sprintf("%s:%d", name, line) }
	want := "want one of " + strings.Join(kindNames(), ", ") + ", with the record below it"
	if n.Kind != yaml.MappingNode || len(n.Content) < 2 || n.Content[1].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: %s", at(n.Line), want)
	}
	for i := 2; i < len(n.Content); i += 2 {
		if key := n.Content[i]; !slices.Contains(beside[n.Content[0].Value], key.Value) {
			return nil, fmt.Errorf("%s: %q beside %q: %s", at(key.Line), key.Value, n.Content[0].Value, want)
		}
	}
	n.Content = n.Content[:2]
	l := &planLine{kind: n.Content[0].Value, at: at(n.Line), rec: &pb.ConfigRecord{}}
	if !slices.Contains(kindNames(), l.kind) {
		return nil, fmt.Errorf("%s: %q: %s", l.at, l.kind, want)
	}
	var doc map[string]map[string]any
	if err := n.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if fields := doc[l.kind]; l.kind == "model" && fields["thing"] != nil {
		var text strings.Builder
		if err := writeJSON(&text, fieldOf(n.Content[1], "thing")); err != nil {
			return nil, fmt.Errorf("%s: %w", l.at, err)
		}
		fields["thing_json"] = text.String()
		delete(fields, "thing")
	}
	var text strings.Builder
	if err := writeValue(&text, doc); err != nil {
		return nil, fmt.Errorf("%s: %w", l.at, err)
	}
	err := protojson.Unmarshal([]byte(text.String()), l.rec)
	if err != nil {
		_, why, _ := strings.Cut(strings.ReplaceAll(err.Error(), "\u00a0", " "), "): ") // after the place in the JSON
		err = errors.New(why)
	} else {
		err = checkRecord(l.rec)
	}
	if err != nil {
		fields := n.Content[1].Content
		for i := 0; i < len(fields); i += 2 { // the line of the field, where the error names it
			if key := fields[i].Value; strings.HasPrefix(err.Error(), key+":") || strings.Contains(err.Error(), fmt.Sprintf("%q", key)) || strings.Contains(err.Error(), "."+key+" ") {
				return nil, fmt.Errorf("%s: %s: %w", at(fields[i].Line), l.kind, err)
			}
		}
		return nil, fmt.Errorf("%s: %s: %w", l.at, l.kind, err)
	}
	if l.id, l.refs = namesIn(l.rec, project); strings.TrimPrefix(l.id, project+"/") == "" {
		return nil, fmt.Errorf("%s: a %s without an id", l.at, l.kind)
	}
	return l, nil
}

// checkRecord says which field of a record breaks a rule of the API. A node would refuse all records of the request for it.
func checkRecord(rec *pb.ConfigRecord) error {
	var v *protovalidate.ValidationError
	if err := protovalidate.Validate(rec); err == nil || !errors.As(err, &v) || len(v.Violations) == 0 {
		return err
	}
	first := v.Violations[0].Proto
	path := protovalidate.FieldPathString(first.GetField())
	text := strings.TrimPrefix(cmp.Or(first.GetMessage(), "breaks the rule "+first.GetRuleId()), path+": ")
	_, field, _ := strings.Cut(path, ".")
	return fmt.Errorf("%s: %s", field, text)
}

// fieldOf is the value of a mapping's key, which is there.
func fieldOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return &yaml.Node{}
}

// writeJSON writes YAML as JSON, its names in the order of the file and its numbers as they are there: what is exported again reads the same.
func writeJSON(w *strings.Builder, n *yaml.Node) error {
	switch {
	case n.Kind == yaml.AliasNode:
		return writeJSON(w, n.Alias)
	case n.Kind == yaml.SequenceNode:
		return writeEach(w, "[]", n.Content, writeJSON)
	case n.Kind == yaml.MappingNode && !slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return c.Tag == "!!merge" }):
		names := 0
		return writeEach(w, "{}", n.Content, func(w *strings.Builder, c *yaml.Node) error {
			if names++; names%2 == 0 {
				return writeJSON(w, c)
			}
			return writeValue(w, c.Value)
		})
	case (n.Tag == "!!int" || n.Tag == "!!float") && json.Valid([]byte(n.Value)):
		w.WriteString(n.Value)
		return nil
	}
	var value any
	if err := n.Decode(&value); err != nil {
		return err
	}
	return writeValue(w, value)
}

// writeValue writes signs such as < as they are: expressions have them.
func writeValue(w *strings.Builder, value any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	err := enc.Encode(value)
	w.Write(bytes.TrimSpace(text.Bytes()))
	return err
}

// writeEach writes the parts of a list, or by turns the names and values of an object.
func writeEach(w *strings.Builder, brackets string, parts []*yaml.Node, write func(*strings.Builder, *yaml.Node) error) error {
	w.WriteByte(brackets[0])
	for i, c := range parts {
		switch {
		case i == 0:
		case brackets == "{}" && i%2 == 1:
			w.WriteByte(':')
		default:
			w.WriteByte(',')
		}
		if err := write(w, c); err != nil {
			return err
		}
	}
	w.WriteByte(brackets[1])
	return nil
}

// namesIn gives a record's id and what it names, complete.
func namesIn(rec *pb.ConfigRecord, project string) (id string, refs []string) {
	_, id = actors.NameRecord(rec, project, func(kind, id string) { refs = append(refs, kind+"/"+id) })
	return id, refs
}

// groups of lines that are committed together: of one kind, and none names another.
func groupsOf(lines []*planLine) [][]*planLine {
	var all [][]*planLine
	for _, l := range lines {
		last := len(all) - 1
		if last < 0 || len(all[last]) == groupSize || all[last][0].kind != l.kind || all[last][0].depth != l.depth {
			all = append(all, nil)
			last++
		}
		all[last] = append(all[last], l)
	}
	return all
}

// apply brings the records to the node, group by group, and prints what became of them, or would in a dry run.
func (a *app) apply(ctx context.Context, n *node, lines []*planLine, project string, dry bool) error {
	tally := newTally(a, dry)
	if dry {
		if err := tally.dryRun(ctx, n, project, groupsOf(lines), false, tally.add); err != nil {
			return err
		}
		return tally.end(len(lines))
	}
	for _, group := range groupsOf(lines) {
		results, err := tally.group(ctx, n, project, group, false)
		for i, x := range results {
			if err := tally.add(x, group[i].at); err != nil {
				return err
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", group[len(results)].at, err)
		}
		if tally.count[pb.ApplyOutcome_APPLY_OUTCOME_REFUSED] > 0 {
			break
		}
	}
	return tally.end(len(lines))
}
