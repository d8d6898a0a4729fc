// Package model reads Thing Models and settings schemas, and checks values against them before a driver sees them.
package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Error says where a value breaks its schema. Path is a JSON pointer within the value.
type Error struct {
	Path, Reason string
}

func (e *Error) Error() string { return e.Path + ": " + e.Reason }

// noLoader refuses references to schemas elsewhere.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("schema refers to %s; references to other documents are not followed", url)
}

// compile makes a schema of decoded JSON.
func compile(doc any) (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	c.DefaultDraft(jsonschema.Draft2020)
	const url = "schema:///schema.json"
	if err := c.AddResource(url, doc); err != nil {
		return nil, err
	}
	return c.Compile(url)
}

// check validates decoded JSON and reports the innermost first complaint.
func check(s *jsonschema.Schema, v any, base string) error {
	err := s.Validate(v)
	if err == nil {
		return nil
	}
	var ve *jsonschema.ValidationError
	if !errors.As(err, &ve) {
		return &Error{Path: base, Reason: err.Error()}
	}
	for len(ve.Causes) > 0 {
		ve = ve.Causes[0]
	}
	path := base
	for _, p := range ve.InstanceLocation {
		path += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(p)
	}
	return &Error{Path: path, Reason: ve.ErrorKind.LocalizedString(message.NewPrinter(language.English))}
}

// dataSchema takes from a WoT affordance what JSON Schema understands: WoT's own words must not be mistaken for it.
func dataSchema(aff map[string]any) map[string]any {
	s := make(map[string]any, len(aff))
	for k, v := range aff {
		switch k {
		case "forms", "observable", "uriVariables", "tm:ref", "@type", "titles", "descriptions", "unit", "title", "description",
			"readOnly", "writeOnly", "format", "contentEncoding", "contentMediaType":
		default:
			s[k] = v
		}
	}
	return s
}

func decodeObject(raw []byte, what string) (map[string]any, error) {
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if m == nil {
		return nil, fmt.Errorf("%s: not an object", what)
	}
	return m, nil
}
