package automation

import (
	"errors"
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// lazy is a map of CEL whose values are looked up when they are read.
type lazy struct{ find func(name string) (any, bool) }

var _ traits.Mapper = lazy{}

func newLazy(find func(name string) (any, bool)) lazy { return lazy{find} }

var errNotAMap = errors.New("name what you want of it: it cannot be gone through")

// Find gives what is at a key.
func (m lazy) Find(key ref.Val) (ref.Val, bool) {
	s, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	v, ok := m.find(string(s))
	if !ok {
		return nil, false
	}
	return types.DefaultTypeAdapter.NativeToValue(v), true
}

// Get gives what is at a key, or an error.
func (m lazy) Get(key ref.Val) ref.Val {
	v, ok := m.Find(key)
	if !ok {
		return types.NewErr("no such key: %v", key)
	}
	return v
}

// Contains says whether there is something at a key.
func (m lazy) Contains(key ref.Val) ref.Val {
	_, ok := m.Find(key)
	return types.Bool(ok)
}

// Size is not known.
func (m lazy) Size() ref.Val { return types.WrapErr(errNotAMap) }

// Iterator is there for CEL, and empty.
func (m lazy) Iterator() traits.Iterator {
	return types.NewDynamicMap(types.DefaultTypeAdapter, map[string]any{}).Iterator()
}

// Equal is for CEL.
func (m lazy) Equal(ref.Val) ref.Val { return types.WrapErr(errNotAMap) }

// ConvertToType is for CEL.
func (m lazy) ConvertToType(ref.Type) ref.Val { return types.WrapErr(errNotAMap) }

// ConvertToNative is for CEL.
func (m lazy) ConvertToNative(reflect.Type) (any, error) { return nil, errNotAMap }

// Type is a map.
func (m lazy) Type() ref.Type { return types.MapType }

// Value is the map itself.
func (m lazy) Value() any { return m }
