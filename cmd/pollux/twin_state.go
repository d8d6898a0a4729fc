package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// tellingValues stand on a line of a list: more do not fit beside the rest.
	tellingValues = 3
	// tellingWidth of a value, in characters.
	tellingWidth = 20
)

// model is a driver's Thing Model as a list of twins needs it. The zero value knows nothing.
type model struct {
	properties map[string]schema
	// place of a property in the model, as its author ordered them.
	place map[string]int
}

// models of the twins' drivers. One that cannot be had only costs the order of the values.
func (n *node) models(ctx context.Context, twins []*pb.Twin) map[string]model {
	out := make(map[string]model)
	for _, t := range twins {
		if _, ok := out[kindText(t)]; ok || len(t.GetState().GetProperties()) == 0 {
			continue
		}
		if t.Model != "" {
			if res, err := n.modelling.GetModel(ctx, req(&pb.GetModelRequest{Id: t.Model})); err == nil {
				out[kindText(t)] = readModel(`{"model":` + res.Msg.Model.ThingJson + `}`)
			} else {
				out[kindText(t)] = model{}
			}
			continue
		}
		name, version, _ := strings.Cut(t.Driver, "@")
		res, err := n.drivers.GetDriver(ctx, req(&pb.GetDriverRequest{Name: name, Version: version}))
		if err != nil {
			out[t.Driver] = model{}
			continue
		}
		out[t.Driver] = readModel(res.Msg.Driver.GetManifestJson())
	}
	return out
}

func readModel(text string) model {
	var raw struct {
		Model struct {
			Properties json.RawMessage `json:"properties"`
		} `json:"model"`
	}
	m := model{place: make(map[string]int)}
	if json.Unmarshal([]byte(text), &raw) != nil || json.Unmarshal(raw.Model.Properties, &m.properties) != nil {
		return model{}
	}
	d := json.NewDecoder(bytes.NewReader(raw.Model.Properties))
	_, _ = d.Token() // {
	for d.More() {
		name, err := d.Token()
		var skip json.RawMessage
		if err != nil || d.Decode(&skip) != nil {
			break
		}
		if s, ok := name.(string); ok {
			m.place[s] = len(m.place)
		}
	}
	return m
}

// telling gives the values that say most, in the console's order: what can be set, then what the unit has beyond the
// driver's model, then the model's measures, then the rest.
func (m model) telling(properties map[string]*pb.Property) string {
	all := slices.SortedFunc(maps.Keys(properties), func(a, b string) int {
		return cmp.Or(cmp.Compare(m.rank(a, properties[a]), m.rank(b, properties[b])), cmp.Compare(m.at(a), m.at(b)), cmp.Compare(a, b))
	})
	var parts []string
	for _, name := range all {
		text := shortValue(properties[name].GetValue())
		if text == "" {
			continue
		}
		if unit := m.properties[name].Unit; unit != "" {
			text += " " + unit
		}
		if parts = append(parts, name+" "+text); len(parts) == tellingValues {
			break
		}
	}
	return strings.Join(parts, ", ")
}

func (m model) at(name string) int {
	if i, ok := m.place[name]; ok {
		return i
	}
	return len(m.place)
}

func (m model) rank(name string, p *pb.Property) int {
	_, truth := p.GetValue().GetKind().(*structpb.Value_BoolValue)
	_, number := p.GetValue().GetKind().(*structpb.Value_NumberValue)
	s, known := m.properties[name]
	switch {
	case known && !s.ReadOnly:
		return 0
	case !known && truth:
		return 1
	case !known && number:
		return 2
	case known && (truth || number || len(s.Enum) > 0):
		return 3
	case !known:
		return 4
	}
	return 5
}

// shortValue is a value as a word; "" where it is none, such as a list.
func shortValue(v *structpb.Value) string {
	switch k := v.GetKind().(type) {
	case *structpb.Value_BoolValue:
		if k.BoolValue {
			return "on"
		}
		return "off"
	case *structpb.Value_NumberValue:
		if k.NumberValue == float64(int64(k.NumberValue)) {
			return strconv.FormatInt(int64(k.NumberValue), 10)
		}
		return strconv.FormatFloat(k.NumberValue, 'g', 6, 64)
	case *structpb.Value_StringValue:
		if r := []rune(k.StringValue); len(r) > tellingWidth {
			return string(r[:tellingWidth-1]) + "…"
		}
		return k.StringValue
	}
	return ""
}
