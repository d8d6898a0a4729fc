package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Check is Parse for a model that somebody makes or changes: it is refused, too, for what nobody can mean, such as a name that is there
// twice. Models that are stored are parsed alone: they may be older than a check.
func Check(text []byte) error {
	m, err := Parse(text)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // of any size
	if err := noNameTwice(dec, ""); err != nil {
		return err
	}
	var whole any
	if err := json.Unmarshal(text, &whole); err == nil { // else it has a number that no machine holds, and no place to tell it
		if err := noRefs("", whole, false); err != nil {
			return err
		}
	}
	var doc document
	if err := json.Unmarshal(text, &doc); err != nil {
		return mistyped("/", err)
	}
	for _, name := range m.Properties() {
		if err := canHold("/properties/"+name, doc.Properties[name]); err != nil {
			return err
		}
	}
	return nil
}

// noNameTwice reads one value of JSON.
func noNameTwice(dec *json.Decoder, path string) error {
	open, err := dec.Token()
	if err != nil {
		return bad(path, "is no JSON: %s", err)
	}
	if open != json.Delim('{') && open != json.Delim('[') {
		return nil
	}
	names := map[string]bool{}
	for i := 0; dec.More(); i++ {
		at := fmt.Sprintf("%s/%d", path, i)
		if open == json.Delim('{') {
			token, err := dec.Token()
			if err != nil {
				return bad(path, "is no JSON: %s", err)
			}
			name := fmt.Sprint(token)
			if at = path + "/" + name; names[name] {
				return bad(at, "is there twice")
			}
			names[name] = true
		}
		if err := noNameTwice(dec, at); err != nil {
			return err
		}
	}
	_, err = dec.Token() // the bracket
	return err
}

// noRefs refuses what another model has, wherever in this one: it would be missing, silently. names: the members are names, not terms.
func noRefs(path string, x any, names bool) error {
	switch x := x.(type) {
	case map[string]any:
		if !names && x["tm:ref"] != nil {
			return bad(path+"/tm:ref", "is not followed: write it out")
		}
		for _, name := range slices.Sorted(maps.Keys(x)) {
			if !names && slices.Contains([]string{"const", "default", "enum", "examples"}, name) {
				continue // data
			}
			if err := noRefs(path+"/"+name, x[name], !names && slices.Contains([]string{"properties", "actions", "events", "uriVariables"}, name)); err != nil {
				return err
			}
		}
	case []any:
		for i := range x {
			if err := noRefs(fmt.Sprintf("%s/%d", path, i), x[i], false); err != nil {
				return err
			}
		}
	}
	return nil
}

// canHold refuses bounds that no value is within.
func canHold(path string, raw json.RawMessage) error {
	var schema struct {
		Minimum, Maximum *float64
		Enum             *[]any
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		return mistyped(path, err)
	}
	if schema.Minimum != nil && schema.Maximum != nil && *schema.Minimum > *schema.Maximum {
		return bad(path+"/minimum", "%v is above the maximum, %v: there is no such value", *schema.Minimum, *schema.Maximum)
	}
	if schema.Enum != nil && len(*schema.Enum) == 0 {
		return bad(path+"/enum", "is empty: there is no such value")
	}
	return nil
}

// mistyped says where JSON has another type than is wanted there.
func mistyped(path string, err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) || wrong.Type == nil {
		return bad(path, "is no Thing Model: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	want := map[reflect.Kind]string{reflect.String: "a text", reflect.Bool: "true or false", reflect.Float64: "a number", reflect.Int: "a whole number",
		reflect.Slice: "a list"}[wrong.Type.Kind()]
	if want == "" {
		want = "an object"
	}
	if wrong.Field != "" {
		path = strings.TrimSuffix(path, "/") + "/" + strings.ReplaceAll(wrong.Field, ".", "/")
	}
	return bad(path, "%s is wanted, not this %s", want, wrong.Value)
}
