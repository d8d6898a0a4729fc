package wot

import (
	"fmt"
	"maps"
	"slices"
)

// Data schemas of 1.1 are JSON Schema of an older draft than the 2020-12 by which values are checked here. The two differ in one word: a list
// with a schema for each place has these as a list in `items` (https://www.w3.org/TR/wot-thing-description11/#arrayschema), and 2020-12 has them in
// `prefixItems`. What comes after these places is free, unless `additionalItems` says otherwise, which 2020-12 calls `items`.

var (
	// schemaWords have a schema each, or a list of them: those of JSON Schema, and those of actions and events.
	schemaWords = []string{"items", "prefixItems", "additionalItems", "unevaluatedItems", "contains", "additionalProperties", "unevaluatedProperties",
		"propertyNames", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "contentSchema",
		"input", "output", "data", "subscription", "cancellation", "dataResponse"}
	// namedWords have an object each, with a schema for each name.
	namedWords = []string{"properties", "patternProperties", "dependentSchemas", "$defs", "definitions", "uriVariables"}
)

// Schemas shows visit a schema, decoded, and then all that are in it; an affordance counts as one. path leads to x, and visit gets the path of each. What
// visit changes is looked at as changed; its first error ends it. A schema that says by $schema which JSON Schema it is of is passed over, and what is in it.
func Schemas(path string, x any, visit func(path string, schema map[string]any) error) error {
	schema, ok := x.(object)
	if !ok || schema["$schema"] != nil { // true and false are schemas, too
		return nil
	}
	if err := visit(path, schema); err != nil {
		return err
	}
	for _, word := range slices.Sorted(maps.Keys(schema)) {
		if err := within(path+"/"+word, word, schema[word], visit); err != nil {
			return err
		}
	}
	return nil
}

// within goes on with the schemas that a word of a schema has, if any.
func within(path, word string, value any, visit func(string, map[string]any) error) error {
	named, one := slices.Contains(namedWords, word), slices.Contains(schemaWords, word)
	switch v := value.(type) {
	case object:
		if one {
			return Schemas(path, v, visit)
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if !named {
				break
			}
			if err := Schemas(path+"/"+name, v[name], visit); err != nil {
				return err
			}
		}
	case []any:
		for i := range v {
			if !one {
				break
			}
			if err := Schemas(fmt.Sprintf("%s/%d", path, i), v[i], visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// JSONSchema writes a data schema, decoded, as JSON Schema 2020-12, in place. One that is that already stays as it is.
func JSONSchema(schema any) {
	_ = Schemas("", schema, func(_ string, x map[string]any) error {
		places, ok := x["items"].([]any)
		if !ok || x["prefixItems"] != nil { // both say what is in the same places: the schema's compiler refuses it
			return nil
		}
		delete(x, "items")
		rename(x, "additionalItems", "items")
		if len(places) > 0 {
			x["prefixItems"] = places
		}
		return nil
	})
}

// dataSchemas writes what JSON Schema says otherwise as the data schemas of 1.1 do, in an affordance: a choice of types, and the places of a list.
func dataSchemas(affordance any) {
	_ = Schemas("", affordance, func(_ string, x map[string]any) error {
		singleType(x)
		if places, ok := x["prefixItems"].([]any); ok {
			delete(x, "prefixItems")
			rename(x, "items", "additionalItems")
			x["items"] = places
		}
		return nil
	})
}

func rename(x object, from, to string) {
	if v, ok := x[from]; ok {
		delete(x, from)
		x[to] = v
	}
}

// singleType writes a choice of types: JSON Schema's list of types is not that of 1.1.
func singleType(x object) {
	list, ok := x["type"].([]any)
	if !ok || x["oneOf"] != nil {
		return
	}
	var choice []any
	for _, t := range list {
		if t != "integer" || !slices.Contains(list, any("number")) { // which is one, and a choice is of exactly one
			choice = append(choice, object{"type": t})
		}
	}
	delete(x, "type")
	x["oneOf"] = choice
}
