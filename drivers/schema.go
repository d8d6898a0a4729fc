package drivers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/polluxhq/pollux/drivers/wot"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// ErrUnknown is the error of a property, action or event that a model does not have.
var ErrUnknown = errors.New("unknown to the model")

// SchemaError says that a value does not fit its schema. Its text names the first place that does not fit.
type SchemaError struct {
	// Subject is what was checked, such as settings, or action blink.
	Subject string
	// Path leads to the place in the value, such as /scenes/0/name; empty for the whole.
	Path   string
	Reason string
	// keyword of the schema that it does not fit, such as pattern.
	keyword string
}

// concealed is the error without the value, which a secret's reason may quote.
func (e *SchemaError) concealed() *SchemaError {
	if e.keyword == "" || e.keyword == "type" {
		return e
	}
	return &SchemaError{Subject: e.Subject, Path: e.Path, Reason: "the secret does not fit the schema's " + e.keyword, keyword: e.keyword}
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("%s: %s: %s", e.Subject, cmpOr(e.Path, "/"), e.Reason)
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// noLoader keeps schemas from reaching for files and addresses.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("a schema may not refer to %s", url)
}

// compileSchema compiles one schema; references outside of it are refused.
func compileSchema(path string, text []byte) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, bad(path, "is not valid JSON")
	}
	return compileDecoded(path, doc)
}

// compileData compiles a data schema of a Thing Model.
func compileData(path string, text []byte) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, bad(path, "is not valid JSON")
	}
	wot.JSONSchema(doc)
	schema, err := compileDecoded(path, doc)
	var e *ManifestError
	if errors.As(err, &e) && !bytes.Contains(text, []byte("prefixItems")) {
		e.Reason = strings.ReplaceAll(e.Reason, "/prefixItems", "/items") // as its author has it
	}
	return schema, err
}

func compileDecoded(path string, doc any) (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	const url = "pollux:schema"
	if err := c.AddResource(url, doc); err != nil {
		return nil, bad(path, "%s", oneLine(err))
	}
	schema, err := c.Compile(url)
	if err != nil {
		return nil, bad(path, "is no JSON Schema: %s", oneLine(err))
	}
	return schema, nil
}

// oneLine is a schema compiler's error as a sentence.
func oneLine(err error) string {
	var invalid *jsonschema.SchemaValidationError
	if errors.As(err, &invalid) {
		err = invalid.Err
	}
	var verr *jsonschema.ValidationError
	if errors.As(err, &verr) {
		path, reason, _ := firstCause(verr)
		return cmpOr(path, "/") + ": " + reason
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

func firstCause(e *jsonschema.ValidationError) (path, reason, keyword string) {
	for len(e.Causes) > 0 {
		e = e.Causes[0]
	}
	for _, token := range e.InstanceLocation {
		path += "/" + token
	}
	return path, e.ErrorKind.LocalizedString(message.NewPrinter(language.English)), strings.Join(e.ErrorKind.KeywordPath(), "/")
}

// checkValue validates a decoded value.
func checkValue(subject string, schema *jsonschema.Schema, value any) error {
	if schema == nil {
		return nil
	}
	err := schema.Validate(value)
	if err == nil {
		return nil
	}
	var verr *jsonschema.ValidationError
	if !errors.As(err, &verr) {
		return &SchemaError{Subject: subject, Reason: oneLine(err)}
	}
	path, reason, keyword := firstCause(verr)
	return &SchemaError{Subject: subject, Path: path, Reason: reason, keyword: keyword}
}

// decodeValue reads JSON for validation; nothing at all is null.
func decodeValue(subject string, text []byte) (any, error) {
	if len(text) == 0 {
		return nil, nil
	}
	if value, ok := plainValue(text); ok {
		return value, nil
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, &SchemaError{Subject: subject, Reason: "is not valid JSON"}
	}
	return value, nil
}

// plainValue reads what most values are, a number, a boolean or a short text, without a decoder; ok is false for the rest.
func plainValue(text []byte) (value any, ok bool) {
	switch c := text[0]; {
	case string(text) == "null":
		return nil, true
	case string(text) == "true", string(text) == "false":
		return c == 't', true
	case c == '-' || c >= '0' && c <= '9':
		return json.Number(text), text[len(text)-1] > ' ' && json.Valid(text)
	case c == '"' && len(text) > 1 && text[len(text)-1] == '"':
		inner := text[1 : len(text)-1]
		for _, b := range inner {
			if b < ' ' || b == '"' || b == '\\' || b >= 0x7f {
				return nil, false
			}
		}
		return string(inner), true
	}
	return nil, false
}
