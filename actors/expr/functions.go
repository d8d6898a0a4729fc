package expr

import (
	"fmt"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/polluxhq/pollux/drivers/units"
)

// doubles are the functions that give a number which mixes with those of JSON.
var doubles = []string{"double", "distance", "convert"}

// functions are those beside CEL's own.
func functions() []cel.EnvOption {
	zones := &sync.Map{} // name → *time.Location: reading one is a file read
	point, number, text := cel.DynType, cel.DynType, cel.StringType
	return []cel.EnvOption{
		cel.Macros(cel.GlobalMacro("now", 0, func(f cel.MacroExprFactory, _ celast.Expr, _ []celast.Expr) (celast.Expr, *cel.Error) {
			return f.NewIdent(nowWord), nil
		})),
		cel.Function("between", cel.MemberOverload("timestamp_between_zone", []*cel.Type{cel.TimestampType, text, text, text}, cel.BoolType,
			cel.FunctionBinding(func(a ...ref.Val) ref.Val { return between(zones, a[0], a[1], a[2], a[3]) })),
			cel.MemberOverload("timestamp_between", []*cel.Type{cel.TimestampType, text, text}, cel.BoolType,
				cel.FunctionBinding(func(a ...ref.Val) ref.Val { return between(zones, a[0], a[1], a[2], types.String("UTC")) }))),
		cel.Function("distance", cel.Overload("distance_points", []*cel.Type{point, point}, cel.DoubleType, cel.BinaryBinding(func(a, b ref.Val) ref.Val {
			p, err := pointOf(a)
			q, err2 := pointOf(b)
			if err != nil || err2 != nil {
				return types.NewErr("distance: want places, such as twin.location or \"52.52,13.40\"")
			}
			return types.Double(Distance(p, q))
		}))),
		cel.Function("near", cel.Overload("near_point", []*cel.Type{point, number, number, number}, cel.BoolType, cel.FunctionBinding(near))),
		cel.Function("within", cel.Overload("within_corners", []*cel.Type{point, cel.ListType(cel.DynType)}, cel.BoolType, cel.BinaryBinding(within))),
		cel.Function("convert", cel.Overload("convert_units", []*cel.Type{number, text, text}, cel.DoubleType, cel.FunctionBinding(convert))),
	}
}

// between says whether a time of day is from the first on and before the second, which may be on the next day.
func between(zones *sync.Map, at, from, to, zone ref.Val) ref.Val {
	name := string(zone.(types.String))
	loc, ok := zones.Load(name)
	if !ok {
		l, err := time.LoadLocation(name)
		if err != nil {
			return types.NewErr("between: there is no time zone %q; want one such as Europe/Berlin", name)
		}
		zones.Store(name, l)
		loc = l
	}
	start, err1 := timeOfDay(string(from.(types.String)))
	end, err2 := timeOfDay(string(to.(types.String)))
	if err1 != nil || err2 != nil {
		return types.NewErr("between: want times of day such as 07:30, not %v and %v", from, to)
	}
	t := at.(types.Timestamp).In(loc.(*time.Location))
	now := t.Hour()*3600 + t.Minute()*60 + t.Second()
	if start <= end {
		return types.Bool(now >= start && now < end)
	}
	return types.Bool(now >= start || now < end)
}

// timeOfDay gives seconds since midnight; 24:00 is the end of the day.
func timeOfDay(s string) (int, error) {
	if s == "24:00" {
		return 24 * 3600, nil
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.Hour()*3600 + t.Minute()*60 + t.Second(), nil
		}
	}
	return 0, fmt.Errorf("%q is no time of day", s)
}

func near(a ...ref.Val) ref.Val {
	p, err := pointOf(a[0])
	lat, ok1 := float(a[1])
	lon, ok2 := float(a[2])
	m, ok3 := float(a[3])
	if err != nil || !ok1 || !ok2 || !ok3 {
		return types.NewErr("near: want a place, and latitude, longitude and metres as numbers")
	}
	return types.Bool(Distance(p, Point{lat, lon}) <= m)
}

func within(a, b ref.Val) ref.Val {
	p, err := pointOf(a)
	if err != nil {
		return types.WrapErr(err)
	}
	list, ok := b.(traits.Lister)
	if !ok {
		return types.NewErr("within: want a list of corners")
	}
	var corners []Point
	for it := list.Iterator(); it.HasNext() == types.True; {
		at, err := cornerOf(it.Next())
		if err != nil {
			return types.WrapErr(err)
		}
		corners = append(corners, at)
	}
	if len(corners) < 2 {
		return types.NewErr("within: want two corners of a box, or more of a polygon")
	}
	return types.Bool(Inside(p, corners))
}

// cornerOf reads a corner: [latitude, longitude], or a place as others.
func cornerOf(c ref.Val) (Point, error) {
	if l, ok := c.(traits.Lister); ok && l.Size() == types.Int(2) {
		lat, ok1 := float(l.Get(types.Int(0)))
		lon, ok2 := float(l.Get(types.Int(1)))
		if p := (Point{lat, lon}); ok1 && ok2 && p.Valid() {
			return p, nil
		}
	}
	return pointOf(c)
}

func convert(a ...ref.Val) ref.Val {
	x, ok := float(a[0])
	if !ok {
		return types.NewErr("convert: want a number, not a %s", a[0].Type().TypeName())
	}
	from, err := units.Parse(string(a[1].(types.String)))
	if err != nil {
		return types.NewErr("convert: %v", err)
	}
	to, err := units.Parse(string(a[2].(types.String)))
	if err != nil {
		return types.NewErr("convert: %v", err)
	}
	y, err := units.Convert(x, from, to)
	if err != nil {
		return types.NewErr("convert: %v", err)
	}
	return types.Double(y)
}

func float(v ref.Val) (float64, bool) {
	switch v := v.(type) {
	case types.Double:
		return float64(v), true
	case types.Int:
		return float64(v), true
	case types.Uint:
		return float64(v), true
	}
	return 0, false
}

// pointOf reads a place.
func pointOf(v ref.Val) (Point, error) {
	if s, ok := v.(types.String); ok {
		if p, ok := ParsePoint(string(s)); ok {
			return p, nil
		}
	}
	if s, err := fromVal(v); err == nil {
		if p, ok := ParsePoint(s.Any()); ok {
			return p, nil
		}
	}
	return Point{}, fmt.Errorf("%v is no place; want one such as {\"lat\": 52.52, \"lon\": 13.40} or \"52.52,13.40\"", v.Value())
}
