package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// listItem is a line of CSV or an item of a YAML list, by columns.
type listItem struct {
	columns, cells []string
	line           int
	err            error // what is wrong with it; nil: it could be read
}

// listReader gives the items of a list, one after the other; io.EOF ends it. Other errors end the import.
type listReader func() (listItem, error)

// openList reads a list as CSV, or as YAML where the file is called so or begins like it.
func openList(in io.Reader, name string, k listKind) (listReader, error) {
	b := bufio.NewReader(in)
	begin, _ := b.Peek(3)
	ext := strings.ToLower(filepath.Ext(name))
	if ext == ".yaml" || ext == ".yml" || string(begin) == "---" || strings.HasPrefix(string(begin), "- ") {
		return openYAML(b, name, k)
	}
	return openCSV(b, name, k)
}

// openCSV reads a line at a time: its memory does not grow with the file.
func openCSV(in io.Reader, name string, k listKind) (listReader, error) {
	r := csv.NewReader(in)
	r.ReuseRecord, r.FieldsPerRecord = true, -1
	columns, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s is empty: its first line names the columns: %s", name, k.columns)
	} else if err != nil {
		return nil, fmt.Errorf("%s: the line that names the columns: %w", name, err)
	}
	columns = slices.Clone(columns)
	columns[0] = strings.TrimPrefix(columns[0], "\ufeff") // Excel writes a mark before the first
	if err := checkColumns(columns, k); err != nil {
		return nil, fmt.Errorf("%s:1: %w", name, err)
	}
	return func() (listItem, error) {
		cells, err := r.Read()
		var broken *csv.ParseError
		if err != nil && !errors.As(err, &broken) {
			if !errors.Is(err, io.EOF) {
				err = fmt.Errorf("read %s: %w", name, err)
			}
			return listItem{}, err
		}
		x := listItem{columns: columns, cells: cells, err: err}
		if broken != nil {
			x.line = broken.StartLine
		} else {
			x.line, _ = r.FieldPos(0)
		}
		if err == nil && len(cells) != len(columns) {
			x.err = fmt.Errorf("%d cells, and %d columns are named", len(cells), len(columns))
		}
		return x, nil
	}, nil
}

// openYAML reads a list whole; several documents are one list. An item's fields are the columns; labels, settings and derived may be mappings, aliases, members and reads lists.
func openYAML(in io.Reader, name string, k listKind) (listReader, error) {
	var items []*yaml.Node
	for d, n := yaml.NewDecoder(in), 0; ; n++ {
		var doc yaml.Node
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			if n == 0 {
				return nil, fmt.Errorf("%s is empty: want a list of %s, with %s", name, k.name, k.columns)
			}
			break
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list := doc.Content[0]
		if list.Kind != yaml.SequenceNode {
			return nil, fmt.Errorf("%s:%d: want a list of %s, such as - {%s: …}; pollux apply -f takes documents of all kinds", name, list.Line, k.name, k.must[0])
		}
		items = append(items, list.Content...)
	}
	return func() (listItem, error) {
		if len(items) == 0 {
			return listItem{}, io.EOF
		}
		x := listItem{line: items[0].Line}
		x.err = x.fields(items[0])
		items = items[1:]
		return x, nil
	}, nil
}

// fields reads the fields of an item of YAML.
func (x *listItem) fields(n *yaml.Node) error {
	n = meant(n)
	if n.Kind != yaml.MappingNode {
		return errors.New("is no mapping of fields")
	}
	var first error
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, v := n.Content[i].Value, meant(n.Content[i+1])
		if v.Kind == yaml.MappingNode && (name == "labels" || name == "settings" || name == "derived") {
			for j := 0; j+1 < len(v.Content); j += 2 {
				text, err := yamlCell(name, v.Content[j+1])
				x.columns, x.cells = append(x.columns, name+"."+v.Content[j].Value), append(x.cells, text)
				if err != nil && first == nil {
					first = fmt.Errorf("%s.%s: %w", name, v.Content[j].Value, err)
				}
			}
			continue
		}
		text, err := yamlCell(name, v)
		x.columns, x.cells = append(x.columns, name), append(x.cells, text)
		if err != nil && first == nil {
			first = fmt.Errorf("%s: %w", name, err)
		}
	}
	for i, c := range x.columns {
		if slices.Contains(x.columns[:i], c) && first == nil {
			first = fmt.Errorf("%s is there twice", c)
		}
	}
	return first
}

// meant is the node that one stands for, which may be named before.
func meant(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// yamlCell is a field as CSV would have it: settings as JSON, lists with ";" between.
func yamlCell(name string, v *yaml.Node) (string, error) {
	switch v = meant(v); {
	case v.Tag == "!!null":
		return "", nil
	case name == "settings" || strings.HasPrefix(name, "settings."):
		var x any
		if err := v.Decode(&x); err != nil {
			return "", err
		}
		text, err := json.Marshal(x)
		return string(text), err
	case v.Kind == yaml.ScalarNode:
		return v.Value, nil
	case v.Kind == yaml.SequenceNode && (name == "aliases" || name == "members" || name == "reads"):
		var parts []string
		for _, one := range v.Content {
			if one.Kind != yaml.ScalarNode {
				return "", errors.New("want a list of texts")
			}
			parts = append(parts, one.Value)
		}
		return strings.Join(parts, ";"), nil
	case v.Kind == yaml.MappingNode && name == "members":
		var parts []string
		for i := 0; i+1 < len(v.Content); i += 2 {
			parts = append(parts, v.Content[i].Value+"="+v.Content[i+1].Value)
		}
		return strings.Join(parts, ";"), nil
	}
	return "", errors.New("want a plain value")
}
