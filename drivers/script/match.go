package script

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// JSON renders a value that came from YAML or JSON, with the keys of objects sorted.
func JSON(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprintf("%v", v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Equal compares two JSON values.
func Equal(a, b any) bool { return reflect.DeepEqual(Plain(a), Plain(b)) }

// Plain turns any value into what encoding/json would read of it.
func Plain(v any) any {
	switch v := v.(type) {
	case nil, bool, string, float64:
		return v
	case json.RawMessage:
		var out any
		if json.Unmarshal(v, &out) != nil {
			return string(v)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = Plain(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = Plain(x)
		}
		return out
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return v
	}
	var out any
	if json.Unmarshal(raw, &out) != nil {
		return v
	}
	return out
}

// Within says whether everything that want has is in got: members of objects at any depth; everything else is equal.
func Within(want, got any) bool {
	w, isObject := Plain(want).(map[string]any)
	g, hasObject := Plain(got).(map[string]any)
	if !isObject || !hasObject {
		return Equal(want, got)
	}
	for k, v := range w {
		x, ok := g[k]
		if !ok && v != nil || !Within(v, x) {
			return false
		}
	}
	return true
}

// Diff shows what two values differ in, one line for each path: "- expected" and "+ got". Empty where they are equal.
// Members that got has beyond want do not count where subset is set.
func Diff(want, got any, subset bool) []string {
	var out []string
	diff("", Plain(want), Plain(got), subset, &out)
	return out
}

func diff(path string, want, got any, subset bool, out *[]string) {
	w, isObject := want.(map[string]any)
	g, hasObject := got.(map[string]any)
	if isObject && hasObject {
		keys := make([]string, 0, len(w)+len(g))
		for k := range w {
			keys = append(keys, k)
		}
		for k := range g {
			if _, both := w[k]; !both && !subset {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		for _, k := range keys {
			next := k
			if path != "" {
				next = path + "." + k
			}
			wv, inWant := w[k]
			gv, inGot := g[k]
			switch {
			case !inWant:
				*out = append(*out, "+ "+next+": "+JSON(gv))
			case !inGot && wv != nil:
				*out = append(*out, "- "+next+": "+JSON(wv))
			case inGot:
				diff(next, wv, gv, subset, out)
			}
		}
		return
	}
	if reflect.DeepEqual(want, got) {
		return
	}
	prefix := ""
	if path != "" {
		prefix = path + ": "
	}
	*out = append(*out, "- "+prefix+JSON(want), "+ "+prefix+JSON(got))
}
