//go:build !wasip1

package twin

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// SchemasTo is the variable of the environment that names the file which Serve writes Schemas to, natively. `pollux driver build` sets it for
// a driver.json with "schemas": "types".
const SchemasTo = "POLLUX_SCHEMAS"

// types are the Go types that the model is about, as they were registered.
type types struct {
	settings   reflect.Type
	properties map[string]reflect.Type
	commands   map[string][2]reflect.Type // input and output
}

func noteSettings[S, M any](d *Driver[S, M]) { d.types.settings = reflect.TypeFor[S]() }

func noteCommand[S, M, In, Out any](d *Driver[S, M], name string) {
	if d.types.commands == nil {
		d.types.commands = map[string][2]reflect.Type{}
	}
	d.types.commands[name] = [2]reflect.Type{reflect.TypeFor[In](), reflect.TypeFor[Out]()}
}

func noteProperty[S, M, V any](d *Driver[S, M], name string) {
	if d.types.properties == nil {
		d.types.properties = map[string]reflect.Type{}
	}
	d.types.properties[name] = reflect.TypeFor[V]()
}

// Schemas are the JSON Schemas of the settings, of the inputs and outputs of commands, and of writable properties, as their Go types have
// them: {"settings":{…},"actions":{NAME:{"input":{…},"output":{…}}},"properties":{NAME:{…}}}. A struct's fields are its members, by their `json`
// names; those with omitempty, a pointer's type or a default may be missing. The tag `schema` says more of a field, with commas between:
// `schema:"title=Poll interval,minimum=1,maximum=60,default=30,enum=a|b,unit=Cel,secret,optional"`. The error names a type that has no schema.
// It is there natively only.
func (d *Driver[S, M]) Schemas() ([]byte, error) {
	settings, err := schemaOf(d.types.settings, nil)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	settings["additionalProperties"] = false
	actions, properties := map[string]any{}, map[string]any{}
	for name, t := range d.types.commands {
		action := map[string]any{}
		for i, part := range []string{"input", "output"} {
			if t[i] == reflect.TypeFor[None]() {
				continue
			}
			if action[part], err = schemaOf(t[i], nil); err != nil {
				return nil, fmt.Errorf("action %s: %s: %w", name, part, err)
			}
		}
		actions[name] = action
	}
	for name, t := range d.types.properties {
		if properties[name], err = schemaOf(t, nil); err != nil {
			return nil, fmt.Errorf("property %s: %w", name, err)
		}
	}
	return json.Marshal(map[string]any{"settings": settings, "actions": actions, "properties": properties})
}

// writeSchemas writes them where the environment says.
func writeSchemas[S, M any](d *Driver[S, M]) {
	path := os.Getenv(SchemasTo)
	if path == "" {
		return
	}
	text, err := d.Schemas()
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "schemas of the driver's types:", err)
		os.Exit(1)
	}
}

// schemaOf gives the schema of a type; above are the types that it is in.
func schemaOf(t reflect.Type, above []reflect.Type) (map[string]any, error) {
	for _, a := range above {
		if a == t {
			return nil, errors.New("type " + t.String() + " holds itself")
		}
	}
	above = append(above[:len(above):len(above)], t)
	if t == reflect.TypeFor[wire.Value]() {
		return map[string]any{}, nil
	}
	switch t.Kind() {
	case reflect.Bool:
		return map[string]any{"type": "boolean"}, nil
	case reflect.String:
		return map[string]any{"type": "string"}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return map[string]any{"type": "integer"}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}, nil
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}, nil
	case reflect.Interface:
		return map[string]any{}, nil
	case reflect.Pointer:
		return schemaOf(t.Elem(), above)
	case reflect.Slice:
		items, err := schemaOf(t.Elem(), above)
		return map[string]any{"type": "array", "items": items}, err
	case reflect.Map:
		members, err := schemaOf(t.Elem(), above)
		return map[string]any{"type": "object", "additionalProperties": members}, err
	case reflect.Struct:
		return structSchema(t, above)
	}
	return nil, errors.New("type " + t.String() + " has no JSON")
}

func structSchema(t reflect.Type, above []reflect.Type) (map[string]any, error) {
	properties, required := map[string]any{}, []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, more, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		schema, err := schemaOf(f.Type, above)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		optional, err := annotate(schema, f.Tag.Get("schema"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if !optional && f.Type.Kind() != reflect.Pointer && !strings.Contains(more, "omitempty") {
			required = append(required, name)
		}
		properties[name] = schema
	}
	schema := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema, nil
}

// annotate adds what a tag says to a field's schema, and tells whether the field may be missing.
func annotate(schema map[string]any, tag string) (optional bool, err error) {
	for _, part := range strings.Split(tag, ",") {
		key, text, valued := strings.Cut(part, "=")
		switch {
		case part == "":
		case part == "optional":
			optional = true
		case part == "secret":
			schema["writeOnly"] = true
		case !valued:
			return false, fmt.Errorf("tag schema: %q: want KEYWORD=VALUE, optional or secret", part)
		case key == "enum":
			var all []any
			for _, one := range strings.Split(text, "|") {
				all = append(all, valueOf(schema["type"] == "string", one))
			}
			schema[key] = all
		case key == "default":
			schema[key], optional = valueOf(schema["type"] == "string", text), true
		default:
			schema[key] = valueOf(texts[key], text)
		}
	}
	return optional, nil
}

// texts are the keywords whose values are texts, whatever they look like.
var texts = map[string]bool{"title": true, "description": true, "unit": true, "pattern": true, "format": true}

// valueOf reads a value of a tag: JSON, or a text.
func valueOf(isText bool, text string) any {
	var v any
	if isText || json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	return v
}
