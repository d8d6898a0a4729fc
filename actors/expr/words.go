package expr

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Scope says which words there are; scopes are joined by |.
type Scope uint8

// Scopes.
const (
	// ScopeTwin: twin.
	ScopeTwin Scope = 1 << iota
	// ScopeChange: kind, name, value, previous, time.
	ScopeChange
	// ScopeMessage: message.
	ScopeMessage
	// ScopeEntry: entry, what search finds.
	ScopeEntry
)

// nowWord is what now() stands for; nobody can write it.
const nowWord = "@now"

func (s Scope) words() []Word {
	var all []Word
	if s&ScopeTwin != 0 {
		all = append(all, Word{"twin", cel.ObjectType(twinObject.typeName)})
	}
	if s&ScopeChange != 0 {
		all = append(all, Word{"kind", cel.StringType}, Word{"name", cel.StringType}, Word{"value", cel.DynType}, Word{"previous", cel.DynType},
			Word{"time", cel.TimestampType})
	}
	if s&ScopeMessage != 0 {
		all = append(all, Word{"message", cel.ObjectType(messageObject.typeName)})
	}
	if s&ScopeEntry != 0 {
		all = append(all, Word{"entry", cel.ObjectType(entryObject.typeName)})
	}
	return all
}

// Input is what an expression is evaluated on. It is read while Eval runs only; a caller may change and use it again.
type Input struct {
	// Now is what now() gives; the zero time: the machine's clock.
	Now     time.Time
	Twin    *Twin
	Change  *Change
	Message *Message
	Entry   *Entry
	// Vars are the values of the words that the owner added: numbers, texts, lists, maps, times, or state.Value.
	Vars map[string]any
}

// Twin is one as expressions see it.
type Twin struct {
	// Config must be there. State may be nil: the twin has no properties then.
	Config *pb.Twin
	State  *state.Record
	// Since is the revision since which the twin's owner has its slot, as state.Record.Shown wants it.
	Since uint64
	// Model is the title or the id of the twin's model; empty: Config's.
	Model string
}

// Change is what a twin says: a property's new value, or an event.
type Change struct {
	// Kind is property or event.
	Kind, Name      string
	Value, Previous state.Value
	// Time is in milliseconds since 1970.
	Time int64
}

// Message is one of a topic, or one that came in.
type Message struct {
	Topic, Key, ContentType string
	Headers                 map[string]string
	Payload                 []byte
	Time                    time.Time
	parsed                  ref.Val
}

// Entry is what search finds.
type Entry struct {
	Kind, ID, Title, Text, Zone, Model, Driver, Status string
	Labels                                             map[string]string
}

// ResolveName gives a word's value to CEL.
func (in *Input) ResolveName(name string) (any, bool) {
	switch name {
	case nowWord:
		if in.Now.IsZero() {
			return types.Timestamp{Time: time.Now().UTC()}, true
		}
		return types.Timestamp{Time: in.Now.UTC()}, true
	case "twin":
		if in.Twin != nil {
			return in.Twin, true
		}
	case "message":
		if in.Message != nil {
			return in.Message, true
		}
	case "entry":
		if in.Entry != nil {
			return in.Entry, true
		}
	}
	if in.Change != nil {
		if v := in.Change.word(name); v != nil {
			return v, true
		}
	}
	v, ok := in.Vars[name]
	if s, is := v.(state.Value); is {
		return toVal(s), ok
	}
	return v, ok
}

// Parent is for CEL: there is none.
func (in *Input) Parent() cel.Activation { return nil }

func (c *Change) word(name string) any {
	switch name {
	case "kind":
		return c.Kind
	case "name":
		return c.Name
	case "value":
		return toVal(c.Value)
	case "previous":
		return toVal(c.Previous)
	case "time":
		return types.Timestamp{Time: time.UnixMilli(c.Time).UTC()}
	}
	return nil
}

// object is a word with fields.
type object struct {
	word, typeName string
	fields         []field
}

type field struct {
	name string
	kind *cel.Type
	get  func(o any) any // nil: it is not set
}

// json says whether a field's values, or those in it, are JSON.
func (o *object) json(name string) bool {
	for _, f := range o.fields {
		if f.name == name {
			return f.kind.IsExactType(cel.DynType) || f.kind.IsExactType(jsonMap)
		}
	}
	return false
}

func objectOf(word string) *object {
	for _, o := range objects {
		if o.word == word {
			return o
		}
	}
	return nil
}

var (
	jsonMap  = cel.MapType(cel.StringType, cel.DynType)
	textMap  = cel.MapType(cel.StringType, cel.StringType)
	timeMap  = cel.MapType(cel.StringType, cel.TimestampType)
	objects  = []*object{&twinObject, &messageObject, &entryObject}
	noLabels = map[string]string{}
)

var twinObject = object{"twin", "pollux.Twin", []field{
	{"id", cel.StringType, func(o any) any { return o.(*Twin).Config.Id }},
	{"name", cel.StringType, func(o any) any { return nameOf(o.(*Twin).Config.Id) }},
	{"project", cel.StringType, func(o any) any { return projectOf(o.(*Twin).Config.Id) }},
	{"model", cel.StringType, func(o any) any { return o.(*Twin).model() }},
	{"driver", cel.StringType, func(o any) any { name, _, _ := strings.Cut(o.(*Twin).Config.Driver, "@"); return name }},
	{"zone", cel.StringType, func(o any) any { return o.(*Twin).Config.Zone }},
	{"via", cel.StringType, func(o any) any { return o.(*Twin).Config.Via }},
	{"uri", cel.StringType, func(o any) any { return o.(*Twin).Config.Uri }},
	{"stopped", cel.BoolType, func(o any) any { return o.(*Twin).Config.Stopped }},
	{"labels", textMap, func(o any) any { return labels(o.(*Twin).Config.Labels) }},
	{"status", cel.StringType, func(o any) any { return o.(*Twin).status() }},
	{"fault", cel.StringType, func(o any) any { return o.(*Twin).record().Fault }},
	{"seen", cel.TimestampType, func(o any) any { return stamp(o.(*Twin).record().LastSeen) }},
	{"properties", jsonMap, func(o any) any { return mapping[properties]{properties{o.(*Twin)}} }},
	{"times", timeMap, func(o any) any { return mapping[times]{times{o.(*Twin)}} }},
	{"desired", jsonMap, func(o any) any { return mapping[desired]{desired{o.(*Twin)}} }},
	{"location", cel.DynType, func(o any) any { return o.(*Twin).location() }},
}}

var messageObject = object{"message", "pollux.Message", []field{
	{"topic", cel.StringType, func(o any) any { return o.(*Message).Topic }},
	{"key", cel.StringType, func(o any) any { return o.(*Message).Key }},
	{"content_type", cel.StringType, func(o any) any { return o.(*Message).ContentType }},
	{"headers", textMap, func(o any) any { return labels(o.(*Message).Headers) }},
	{"payload", cel.DynType, func(o any) any { return o.(*Message).payload() }},
	{"time", cel.TimestampType, func(o any) any { return types.Timestamp{Time: o.(*Message).Time.UTC()} }},
}}

var entryObject = object{"entry", "pollux.Entry", []field{
	{"kind", cel.StringType, func(o any) any { return o.(*Entry).Kind }},
	{"id", cel.StringType, func(o any) any { return o.(*Entry).ID }},
	{"name", cel.StringType, func(o any) any { return nameOf(o.(*Entry).ID) }},
	{"project", cel.StringType, func(o any) any { return projectOf(o.(*Entry).ID) }},
	{"title", cel.StringType, func(o any) any { return o.(*Entry).Title }},
	{"text", cel.StringType, func(o any) any { return o.(*Entry).Text }},
	{"zone", cel.StringType, func(o any) any { return o.(*Entry).Zone }},
	{"model", cel.StringType, func(o any) any { return o.(*Entry).Model }},
	{"driver", cel.StringType, func(o any) any { return o.(*Entry).Driver }},
	{"status", cel.StringType, func(o any) any { return o.(*Entry).Status }},
	{"labels", textMap, func(o any) any { return labels(o.(*Entry).Labels) }},
}}

func nameOf(id string) string { return id[strings.IndexByte(id, '/')+1:] }

func projectOf(id string) string {
	project, _, ok := strings.Cut(id, "/")
	if !ok {
		return ""
	}
	return project
}

func labels(m map[string]string) map[string]string {
	if m == nil {
		return noLabels
	}
	return m
}

func stamp(ms int64) any {
	if ms == 0 {
		return nil
	}
	return types.Timestamp{Time: time.UnixMilli(ms).UTC()}
}

var noRecord state.Record

func (t *Twin) record() *state.Record {
	if t.State == nil {
		return &noRecord
	}
	return t.State
}

func (t *Twin) model() string {
	if t.Model != "" {
		return t.Model
	}
	return t.Config.Model
}

// StatusWord is the word for a connection: connected, connecting, disconnected, sleeping, stopped, none.
func StatusWord(c pb.Connection) string {
	if c == pb.Connection_CONNECTION_UNSPECIFIED {
		c = pb.Connection_CONNECTION_NONE
	}
	return strings.ToLower(strings.TrimPrefix(c.String(), "CONNECTION_"))
}

func (t *Twin) status() string {
	if t.Config.Stopped {
		return StatusWord(pb.Connection_CONNECTION_STOPPED)
	}
	return StatusWord(t.record().Shown(t.Since))
}

func (t *Twin) location() any {
	if p, ok := t.Location(); ok {
		return types.DefaultTypeAdapter.NativeToValue(map[string]float64{"lat": p.Lat, "lon": p.Lon})
	}
	return nil
}

// payload reads a message's payload: JSON where it is that, else a text, else bytes.
func (m *Message) payload() ref.Val {
	if m.parsed == nil {
		var a any
		switch {
		case json.Unmarshal(m.Payload, &a) == nil:
			m.parsed = types.DefaultTypeAdapter.NativeToValue(a)
		default:
			m.parsed = types.Bytes(m.Payload)
		}
	}
	return m.parsed
}

// provider knows the fields of our objects, so that a wrong name is found when an expression is compiled.
type provider struct {
	types.Provider
	byType map[string]map[string]*types.FieldType
}

func newProvider(p types.Provider) *provider {
	all := &provider{p, map[string]map[string]*types.FieldType{}}
	for _, o := range objects {
		fields := map[string]*types.FieldType{}
		for _, f := range o.fields {
			path := o.word + "." + f.name
			fields[f.name] = &types.FieldType{Type: f.kind,
				IsSet: func(o any) bool { v := f.get(o); return v != nil && v != "" },
				GetFrom: func(o any) (any, error) {
					if v := f.get(o); v != nil {
						return v, nil
					}
					return nil, fmt.Errorf("%w: %s", ErrMissing, path)
				}}
		}
		all.byType[o.typeName] = fields
	}
	return all
}

func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if p.byType[name] != nil {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Provider.FindStructType(name)
}

func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	for _, o := range objects {
		if o.typeName == name {
			return o.names(), true
		}
	}
	return p.Provider.FindStructFieldNames(name)
}

func (o *object) names() []string {
	var all []string
	for _, f := range o.fields {
		all = append(all, f.name)
	}
	return all
}

func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if fields := p.byType[name]; fields != nil {
		f, ok := fields[field]
		return f, ok
	}
	return p.Provider.FindStructFieldType(name, field)
}

// adapter makes values of CEL of ours.
type adapter struct{ types.Adapter }

func (a adapter) NativeToValue(v any) ref.Val {
	switch v := v.(type) {
	case state.Value:
		return toVal(v)
	case *Twin:
		return types.NewErr("twin is no value: want twin.id or another of its fields")
	case *Message:
		return types.NewErr("message is no value: want message.payload or another of its fields")
	case *Entry:
		return types.NewErr("entry is no value: want entry.id or another of its fields")
	}
	return a.Adapter.NativeToValue(v)
}
