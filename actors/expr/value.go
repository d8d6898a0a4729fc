package expr

import (
	"fmt"
	"reflect"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/actors/state"
)

// toVal makes a value CEL's.
func toVal(v state.Value) ref.Val {
	switch v.Kind() {
	case state.False:
		return types.False
	case state.True:
		return types.True
	case state.Number:
		n, _ := v.Sample()
		return types.Double(n)
	case state.String:
		s, _ := v.Text()
		return types.String(s)
	case state.JSON:
		return types.DefaultTypeAdapter.NativeToValue(v.Any())
	}
	return types.NullValue
}

// fromVal makes one of CEL's values ours.
func fromVal(v ref.Val) (state.Value, error) {
	switch v := v.(type) {
	case types.Bool:
		return state.BoolValue(bool(v)), nil
	case types.Double:
		return state.FromAny(float64(v))
	case types.Int:
		return state.NumberValue(float64(v)), nil
	case types.Uint:
		return state.NumberValue(float64(v)), nil
	case types.String:
		return state.StringValue(string(v)), nil
	case types.Null:
		return state.Value{}, nil
	case types.Timestamp:
		return state.StringValue(v.UTC().Format(time.RFC3339Nano)), nil
	case types.Duration:
		return state.StringValue(v.Duration.String()), nil
	}
	p, err := v.ConvertToNative(reflect.TypeFor[*structpb.Value]())
	if err != nil {
		return state.Value{}, fmt.Errorf("it is a %s, which is no JSON", v.Type().TypeName())
	}
	return state.FromProto(p.(*structpb.Value))
}

// lookup is a map of CEL that reads one key at a time.
type lookup interface {
	find(name string) (ref.Val, bool)
	keys() []string
}

// properties, times and desired look into a twin's record.
type (
	properties struct{ *Twin }
	times      struct{ *Twin }
	desired    struct{ *Twin }
)

func (p properties) find(name string) (ref.Val, bool) {
	for i := range p.record().Properties {
		if x := &p.State.Properties[i]; x.Name.Value() == name {
			return toVal(x.Value), true
		}
	}
	return nil, false
}

func (p properties) keys() (all []string) {
	for i := range p.record().Properties {
		all = append(all, p.State.Properties[i].Name.Value())
	}
	return all
}

func (p times) find(name string) (ref.Val, bool) {
	for i := range p.record().Properties {
		if x := &p.State.Properties[i]; x.Name.Value() == name {
			return types.Timestamp{Time: time.UnixMilli(x.Time()).UTC()}, true
		}
	}
	return nil, false
}

func (p times) keys() []string { return properties(p).keys() }

func (p desired) find(name string) (ref.Val, bool) {
	for i := range p.record().Desired {
		if x := &p.State.Desired[i]; x.Name.Value() == name {
			return toVal(x.Value), true
		}
	}
	return nil, false
}

func (p desired) keys() (all []string) {
	for i := range p.record().Desired {
		all = append(all, p.State.Desired[i].Name.Value())
	}
	return all
}
