package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// message is any message of the API.
type message = proto.Message

// schema is the part of a JSON Schema, or of a Thing Model's affordance, that a person wants to see.
type schema struct {
	Type        any               `json:"type"`
	Title       string            `json:"title"`
	Description string            `json:"description"`
	Unit        string            `json:"unit"`
	ReadOnly    bool              `json:"readOnly"`
	WriteOnly   bool              `json:"writeOnly"`
	Default     json.RawMessage   `json:"default"`
	Enum        []json.RawMessage `json:"enum"`
	Properties  map[string]schema `json:"properties"`
	Required    []string          `json:"required"`
	Input       *schema           `json:"input"`
}

// thing is the part of a Thing Model that the command line reads.
type thing struct {
	Properties map[string]schema `json:"properties"`
	Actions    map[string]schema `json:"actions"`
	Events     map[string]schema `json:"events"`
}

// manifest is the part of a driver's manifest that the command line reads.
type manifest struct {
	Kind     string `json:"kind"`
	Model    thing  `json:"model"`
	Settings schema `json:"settings"`
}

// readManifest gives an empty one where the text is damaged: it only serves to show and to guess types.
func readManifest(text string) manifest {
	var m manifest
	_ = json.Unmarshal([]byte(text), &m)
	return m
}

func (s schema) typeText() string {
	text := "any"
	switch t := s.Type.(type) {
	case string:
		text = t
	case []any:
		var parts []string
		for _, p := range t {
			parts = append(parts, fmt.Sprint(p))
		}
		text = strings.Join(parts, "|")
	}
	if len(s.Enum) > 0 {
		var parts []string
		for _, e := range s.Enum {
			parts = append(parts, strings.Trim(string(e), `"`))
		}
		text = strings.Join(parts, "|")
	}
	if s.Unit != "" {
		text += " " + s.Unit
	}
	return text
}

// isString: a value for it is taken as it is typed.
func (s schema) isString() bool { return s.Type == "string" }

func (s schema) about() string {
	if s.Description != "" {
		return s.Description
	}
	return s.Title
}

func describeDriver(w io.Writer, d *pb.Driver) {
	fmt.Fprintf(w, "%s %s\t%s\n", d.Name, d.Version, printable(d.Title))
	if d.Description != "" {
		fmt.Fprintf(w, "%s\n", printable(d.Description))
	}
	fmt.Fprintf(w, "\nDigest\t%s\nSize\t%s\nTransports\t%s\nCapabilities\t%s\nTwins\t%d\n", d.Digest, bytesText(d.Size),
		dash(strings.Join(d.Transports, ", ")), dash(strings.Join(d.Capabilities, ", ")), d.Twins)
	if d.Quarantined > 0 {
		fmt.Fprintf(w, "Quarantine\t%d twins, because it went on failing; tried again at once by: pollux driver release %s\n", d.Quarantined, d.Name)
	}
	m := readManifest(d.ManifestJson)
	affordances(w, "Properties", m.Model.Properties)
	affordances(w, "Actions", m.Model.Actions)
	affordances(w, "Events", m.Model.Events)
	if len(m.Settings.Properties) > 0 {
		fmt.Fprintf(w, "\nSettings\n")
		for _, name := range slices.Sorted(maps.Keys(m.Settings.Properties)) {
			s := m.Settings.Properties[name]
			var notes []string
			if slices.Contains(m.Settings.Required, name) {
				notes = append(notes, "required")
			}
			if s.WriteOnly {
				notes = append(notes, "secret")
			}
			if len(s.Default) > 0 {
				notes = append(notes, "default "+string(s.Default))
			}
			row(w, "  "+name, s.typeText(), dash(strings.Join(notes, ", ")), dash(s.about()))
		}
	}
}

func affordances(w io.Writer, title string, list map[string]schema) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, name := range slices.Sorted(maps.Keys(list)) {
		s := list[name]
		kind, notes := s.typeText(), ""
		switch title {
		case "Actions":
			kind = ""
			if s.Input != nil {
				kind = s.Input.typeText()
				if len(s.Input.Properties) > 0 {
					kind = "{" + strings.Join(slices.Sorted(maps.Keys(s.Input.Properties)), ", ") + "}"
				}
			}
		case "Properties":
			notes = "writable"
			if s.ReadOnly {
				notes = ""
			}
		}
		row(w, "  "+name, dash(kind), dash(notes), dash(s.about()))
	}
}

// switches are words for what is on or off.
var switches = map[string]bool{"on": true, "yes": true, "off": false, "no": false}

// parseValue reads a value as typed: on and off where the schema wants a boolean. Where the schema wants a string it is taken as it is; else JSON where it is JSON,
// and a string where it is not. Where a string must look like a number and no schema tells, quote it: '"31"'.
func parseValue(text string, s schema) (*structpb.Value, error) {
	if s.isString() && !strings.HasPrefix(text, `"`) {
		return structpb.NewStringValue(text), nil
	}
	if on, ok := switches[strings.ToLower(text)]; ok && s.Type == "boolean" {
		return structpb.NewBoolValue(on), nil
	}
	v := &structpb.Value{}
	if err := protojson.Unmarshal([]byte(text), v); err == nil {
		return v, nil
	}
	if strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") {
		return nil, usagef("%s is no JSON", text)
	}
	return structpb.NewStringValue(text), nil
}

// pairs reads k=v flags.
func pairs(flag string, list []string) (map[string]string, error) {
	out := make(map[string]string, len(list))
	for _, p := range list {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, usagef("--%s %q: want NAME=VALUE", flag, p)
		}
		out[k] = v
	}
	return out, nil
}

// spanOf is a time that a flag gives; of none, the usual one counts.
func spanOf(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// names of a list's records.
func names[T any](list []T, name func(T) string) []string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = name(x)
	}
	return out
}
