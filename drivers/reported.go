package drivers

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
	"github.com/polluxhq/pollux/drivers/wot"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// What a device says is held against its model by type: what is of the right type is taken even where it is out of its range.

// maxExact is up to where every whole number has a value of its own (2^53-1): the one after it could be two.
const maxExact = 1<<53 - 1

// Fits says whether a reported value, valid JSON, is of the property's type; null always is. It costs nanoseconds.
func (p *Property) Fits(value []byte) bool {
	v := wire.Value(value)
	switch v.Kind() {
	case wire.Null:
		return true
	case wire.Bool:
		return p.Type == "boolean"
	case wire.Number:
		if p.Type == "integer" {
			n, ok := v.Int()
			return ok && n <= maxExact && n >= -maxExact
		}
		return p.Type == "number" && finite(v)
	case wire.String:
		return p.Type == "string"
	case wire.Array:
		return p.Type == "array"
	case wire.Object:
		return p.Type == "object"
	}
	return false
}

// finite says whether a number is one that can be kept. Only a very long one or one with an exponent may not be.
func finite(v wire.Value) bool {
	if len(v) <= 308 && bytes.IndexByte(v, 'e') < 0 && bytes.IndexByte(v, 'E') < 0 {
		return true
	}
	_, ok := v.Float()
	return ok
}

// Misfit says why a value does not fit, with the value; empty: it does.
func (p *Property) Misfit(value []byte) string {
	v := wire.Value(value)
	numeric := v.Kind() == wire.Number && (p.Type == "integer" || p.Type == "number")
	switch {
	case p.Fits(value):
		return ""
	case numeric && !finite(v):
		return fmt.Sprintf("%.40s is beyond what a number can be, about 1.8e308", v)
	case numeric && wholeBeyond(v):
		return fmt.Sprintf("%.40s is a whole number beyond ±%d, which would not be exact: a property of type number rounds it, a string keeps it", v, maxExact)
	}
	return fmt.Sprintf("%.64s is no %s", v, p.Type)
}

// wholeBeyond says whether a number is too large for an integer.
func wholeBeyond(v wire.Value) bool {
	x, _ := v.Float()
	return x > maxExact || x < -maxExact
}

// Check says why a reported value does not fit the property's whole schema, or nil. Errors are *SchemaError.
func (p *Property) Check(value []byte) error {
	subject := "property " + p.Name
	decoded, err := decodeValue(subject, value)
	if err != nil {
		return err
	}
	return checkValue(subject, p.schema, decoded)
}

// Fits says why an event's data, JSON or nothing, is of other types than the model gives, anywhere in it, or nil. Nothing and null always fit.
// Errors are *SchemaError.
func (e *EventInfo) Fits(data []byte) error {
	if e.types == nil {
		return nil
	}
	subject := "event " + e.Name
	decoded, err := decodeValue(subject, data)
	if err != nil || decoded == nil {
		return err
	}
	return checkValue(subject, e.types, decoded)
}

// CheckOutput says why what an action answered, JSON or nothing, does not fit the schema that the model gives, or nil. Errors are *SchemaError.
func (a *Action) CheckOutput(output []byte) error {
	if a.output == nil {
		return nil
	}
	subject := "output of " + a.Name
	decoded, err := decodeValue(subject, output)
	if err != nil {
		return err
	}
	return checkValue(subject, a.output, decoded)
}

// typeWords are the words of a schema that say of which types values are, or lead to what does.
var typeWords = []string{"type", "properties", "patternProperties", "additionalProperties", "items", "prefixItems", "allOf", "anyOf", "$ref", "$anchor",
	"$defs", "definitions"}

// compileTypes compiles what a data schema, which compiles, says of types, and nothing else of it; nil: nothing, or it refers to what is left out.
func compileTypes(path string, text []byte) *jsonschema.Schema {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil
	}
	wot.JSONSchema(doc)
	_ = wot.Schemas("", doc, func(_ string, x map[string]any) error {
		if one := x["oneOf"]; one != nil && x["anyOf"] == nil {
			x["anyOf"] = one // without their other words more than one may be meant
		}
		for word, value := range x {
			if _, none := value.(bool); none || !slices.Contains(typeWords, word) {
				delete(x, word)
			}
		}
		return nil
	})
	schema, err := compileDecoded(path, doc)
	if err != nil {
		return nil
	}
	return schema
}
