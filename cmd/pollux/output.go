package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"gopkg.in/yaml.v3"
)

func (a *app) checkOutput() error {
	switch a.output {
	case "", "table", "json", "yaml":
		return nil
	}
	return usagef("--output %q: want table, json or yaml", a.output)
}

func (a *app) table() bool { return a.output == "" || a.output == "table" }

// warn prints what a node remarks about something that it took all the same.
func (a *app) warn(warnings []string) {
	for _, w := range warnings {
		a.errorf("warning: %s\n", printable(w))
	}
}

// show prints a message as JSON or YAML, or by the given function as a table.
func (a *app) show(m proto.Message, table func(io.Writer)) error {
	switch a.output {
	case "json":
		b, err := jsonOf(m)
		if err != nil {
			return err
		}
		_, err = a.out.Write(append(b, '\n'))
		return err
	case "yaml":
		return a.yaml(m)
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// line prints one message of a stream: as one line of JSON, as one YAML document, or by the given function.
func (a *app) line(m proto.Message, table func()) error {
	switch a.output {
	case "json":
		b, err := protojson.Marshal(m)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, b); err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		compact.WriteByte('\n')
		_, err = a.out.Write(compact.Bytes())
		return err
	case "yaml":
		a.printf("---\n")
		return a.yaml(m)
	}
	table()
	return nil
}

func (a *app) yaml(m proto.Message) error {
	b, err := jsonOf(m)
	if err != nil {
		return err
	}
	return a.yamlOf(b)
}

// yamlOf prints JSON as YAML.
func (a *app) yamlOf(b []byte) error {
	doc, err := nodeOf(b)
	if err != nil {
		return err
	}
	return a.yamlNode(doc)
}

// yamlNode prints a document of YAML.
func (a *app) yamlNode(doc *yaml.Node) error {
	enc := yaml.NewEncoder(a.out)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return enc.Close()
}

// nodeOf reads JSON as nodes of YAML: names stay in their order, numbers as they are written. It is not read as YAML, which has other escapes, folds
// lines, and takes no control characters.
func nodeOf(text []byte) (*yaml.Node, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	n, err := readNode(dec, false)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return n, nil
}

func readNode(dec *json.Decoder, name bool) (*yaml.Node, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if v == '{' {
			n.Kind = yaml.MappingNode
		}
		for dec.More() { // in an object names and values by turns
			c, err := readNode(dec, v == '{' && len(n.Content)%2 == 0)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, c)
		}
		_, err := dec.Token()
		return n, err
	case string:
		return textNode(v, name), nil
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: v.String()}, nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: strings.Replace(fmt.Sprint(token), "<nil>", "null", 1)}, nil
}

// oldBooleans are no strings to readers of YAML 1.1: a property that is "on" must not become true.
var oldBooleans = []string{"on", "off", "yes", "no", "y", "n"}

// textNode is a text, in quotes where it would be read as something else: as what YAML merges, as an end of a line that is none, as an indentation.
// name: it is that of a value, which is not to be several lines.
func textNode(text string, name bool) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if slices.Contains(oldBooleans, strings.ToLower(text)) || text == "<<" || strings.ContainsAny(text, "\r\u0085\u2028\u2029") ||
		strings.Contains(text, "\n") && (name || strings.TrimLeft(text, " \t\n") != text) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// jsonOf is indented JSON. protojson varies its white space on purpose, so it is laid out anew.
func jsonOf(m proto.Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{EmitUnpopulated: false}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return out.Bytes(), nil
}

// row prints one line of a table. What a cell holds may come from a device, so it is made harmless for a terminal.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, printable(fmt.Sprint(c)))
	}
	fmt.Fprintln(w)
}

// printable replaces control characters, so that no name, log line or value steers the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return '·'
		}
		return r
	}, s)
}

// valueText is a property's value on one line.
func valueText(v *structpb.Value) string {
	if v == nil {
		return "–"
	}
	if s, ok := v.GetKind().(*structpb.Value_StringValue); ok {
		return s.StringValue
	}
	b, err := protojson.Marshal(v)
	if err != nil {
		return "?"
	}
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return string(b)
	}
	return out.String()
}

// local is a moment where the person is.
func (a *app) local(t *timestamppb.Timestamp) time.Time {
	if a.zone != nil {
		return t.AsTime().In(a.zone)
	}
	return t.AsTime().Local()
}

// timeText is a moment as a person reads it: the clock today, else the date.
func timeText(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return "–"
	}
	at := t.AsTime().In(now.Location())
	if at.YearDay() == now.YearDay() && at.Year() == now.Year() {
		return at.Format("15:04:05")
	}
	return at.Format("2006-01-02 15:04:05")
}

// ago is a span as a person reads it.
func ago(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return "never"
	}
	d := max(now.Sub(t.AsTime()), 0)
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours()/24))
}

// bytesText is a size in binary units.
func bytesText(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for ; f >= unit && i < 3; i++ {
		f /= unit
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGT"[i])
}

// enumText is the last word of an enum's name, in lower case: CONNECTION_CONNECTED is connected.
func enumText(e fmt.Stringer, prefix string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(e.String(), prefix), "_", " "))
}

func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}
