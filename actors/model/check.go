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

	"github.com/polluxhq/pollux/drivers/units"
	"github.com/polluxhq/pollux/drivers/wot"
)

// Check is Parse for a model that somebody makes or changes: it is refused, too, for what nobody can mean, such as a name that is there
// twice. Models that are stored are parsed alone: they may be older than a check.
func Check(text []byte) error {
	if _, err := Parse(text); err != nil {
		return err
	}
	reader := func() *json.Decoder {
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber() // of any size
		return dec
	}
	if err := noNameTwice(reader(), ""); err != nil {
		return err
	}
	var whole map[string]any
	if err := reader().Decode(&whole); err != nil {
		return mistyped("/", err)
	}
	if err := noRefs("", whole, false); err != nil {
		return err
	}
	for _, kind := range []string{"properties", "actions", "events"} {
		all, _ := whole[kind].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if err := wot.Schemas("/"+kind+"/"+name, all[name], canHold); err != nil {
				return err
			}
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

// canHold refuses a schema whose bounds no value is within, or whose unit nobody knows, wherever it is in a property, an action or an event.
func canHold(path string, schema map[string]any) error {
	low, least := schema["minimum"].(json.Number)
	high, most := schema["maximum"].(json.Number)
	if least && most {
		from, _ := low.Float64() // what is beyond every number is infinite
		to, _ := high.Float64()
		if from > to {
			return bad(path+"/minimum", "%v is above the maximum, %v: there is no such value", low, high)
		}
	}
	if list, ok := schema["enum"].([]any); ok && len(list) == 0 {
		return bad(path+"/enum", "is empty: there is no such value")
	}
	if unit, _ := schema["unit"].(string); unit != "" {
		if _, err := units.Parse(unit); err != nil {
			return unknownUnit(path+"/unit", unit)
		}
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
