package expr

import (
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// mapping is a lookup as CEL wants a map. It is a pointer in shape where its lookup is, so that nothing is allocated for it.
type mapping[L lookup] struct{ of L }

// Find gives what is at a key.
func (m mapping[L]) Find(key ref.Val) (ref.Val, bool) {
	s, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), false
	}
	return m.of.find(string(s))
}

// Get gives what is at a key, or an error.
func (m mapping[L]) Get(key ref.Val) ref.Val {
	v, ok := m.Find(key)
	if !ok && v == nil {
		return types.NewErr("no such key: %v", key)
	}
	return v
}

// Contains says whether there is something at a key.
func (m mapping[L]) Contains(key ref.Val) ref.Val {
	_, ok := m.Find(key)
	return types.Bool(ok)
}

// whole is the map with all that is in it, for what goes through all of it.
func (m mapping[L]) whole() traits.Mapper {
	all := map[ref.Val]ref.Val{}
	for _, k := range m.of.keys() {
		all[types.String(k)], _ = m.of.find(k)
	}
	return types.NewRefValMap(types.DefaultTypeAdapter, all)
}

// Size is how many keys there are.
func (m mapping[L]) Size() ref.Val { return types.Int(len(m.of.keys())) }

// Iterator goes through the keys.
func (m mapping[L]) Iterator() traits.Iterator { return m.whole().Iterator() }

// Equal compares with another map.
func (m mapping[L]) Equal(o ref.Val) ref.Val {
	if w, ok := o.(interface{ whole() traits.Mapper }); ok {
		o = w.whole()
	}
	return m.whole().Equal(o)
}

// ConvertToType is for CEL.
func (m mapping[L]) ConvertToType(t ref.Type) ref.Val { return m.whole().ConvertToType(t) }

// ConvertToNative is for CEL.
func (m mapping[L]) ConvertToNative(t reflect.Type) (any, error) { return m.whole().ConvertToNative(t) }

// Type is a map.
func (m mapping[L]) Type() ref.Type { return types.MapType }

// Value is the map itself.
func (m mapping[L]) Value() any { return m }
