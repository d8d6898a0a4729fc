package drivers_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/polluxhq/pollux/drivers"
)

func manifestSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(drivers.ManifestSchema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("manifest.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// part of the schema, as far as it mirrors a Go type.
type part struct {
	Type                 string           `json:"type"`
	Ref                  string           `json:"$ref"`
	Properties           map[string]*part `json:"properties"`
	AdditionalProperties any              `json:"additionalProperties"`
	Items                *part            `json:"items"`
	Enum                 []any            `json:"enum"`
	Defs                 map[string]*part `json:"$defs"`
}

// Each field of the Go types is in the schema, with its type, and the other way round.
func TestManifestSchemaHasTheFieldsOfTheGoTypes(t *testing.T) {
	var root part
	if err := json.Unmarshal(drivers.ManifestSchema(), &root); err != nil {
		t.Fatal(err)
	}
	var compare func(path string, goType reflect.Type, p *part)
	compare = func(path string, goType reflect.Type, p *part) {
		if goType.Kind() == reflect.Pointer {
			goType = goType.Elem()
		}
		if p.Ref != "" {
			p = root.Defs[strings.TrimPrefix(p.Ref, "#/$defs/")]
		}
		want := map[reflect.Kind]string{reflect.String: "string", reflect.Int: "integer", reflect.Bool: "boolean",
			reflect.Struct: "object", reflect.Map: "object", reflect.Slice: "array"}[goType.Kind()]
		if goType == reflect.TypeFor[json.RawMessage]() {
			want = "object"
		}
		if p.Type != want && p.Enum == nil {
			t.Errorf("%s: %q in the schema, %s in Go", path, p.Type, want)
		}
		switch {
		case goType == reflect.TypeFor[json.RawMessage]():
		case goType.Kind() == reflect.Slice:
			compare(path+"/0", goType.Elem(), p.Items)
		case goType.Kind() == reflect.Struct:
			if p.AdditionalProperties != false {
				t.Errorf("%s: unknown members are not refused", path)
			}
			fields := map[string]reflect.Type{}
			for _, f := range reflect.VisibleFields(goType) {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if !f.Anonymous && name != "-" {
					fields[name] = f.Type
				}
			}
			for name, fieldType := range fields {
				if p.Properties[name] == nil {
					t.Errorf("%s/%s: not in the schema", path, name)
					continue
				}
				compare(path+"/"+name, fieldType, p.Properties[name])
			}
			for name := range p.Properties {
				if fields[name] == nil {
					t.Errorf("%s/%s: not in Go", path, name)
				}
			}
		}
	}
	compare("", reflect.TypeFor[drivers.Manifest](), &root)
	var capabilities []string
	for _, v := range root.Properties["capabilities"].Items.Enum {
		capabilities = append(capabilities, v.(string))
	}
	if !slices.Equal(capabilities, drivers.Offered()) {
		t.Errorf("capabilities %v, want %v", capabilities, drivers.Offered())
	}
	var schemes []string
	for _, v := range root.Defs["TransportOptions"].Properties["scheme"].Enum {
		schemes = append(schemes, v.(string))
	}
	if !slices.Equal(schemes, drivers.Schemes()) {
		t.Errorf("schemes %v, want %v", schemes, drivers.Schemes())
	}
}

// Every manifest of the repository is good to both.
func TestManifestSchemaTakesTheManifests(t *testing.T) {
	s, seen := manifestSchema(t), 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && slices.Contains([]string{"node_modules", "dist", "templates"}, d.Name()) {
			return fs.SkipDir
		}
		if d.Name() != "driver.json" {
			return nil
		}
		seen++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, err := drivers.ParseManifest(text); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if err := judge(t, s, string(text)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil || seen < 5 {
		t.Errorf("%d manifests, %v", seen, err)
	}
}

func judge(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// What is wrong in one place is refused by both.
func TestManifestSchemaRefusesWhatTheParserRefuses(t *testing.T) {
	s := manifestSchema(t)
	const good = `{"contract":"twin1","name":"a","version":"1.0.0","capabilities":["send"],"model":{},"transport":{"scheme":"tcp",` +
		`"tokenizer":{"delimiter":"\r"}},"memory_mb":8}`
	for _, c := range []struct{ from, to string }{
		{`"x"`, `"x"`}, {"twin1", "twin2"}, {`"name":"a"`, `"name":"A"`}, {`"name":"a",`, ``}, {"1.0.0", "v1"}, {"1.0.0", "1.0"}, {"send", "fly"},
		{`["send"]`, `["send","send"]`}, {`"model":{}`, `"modell":{}`}, {`"model":{},`, ``}, {`"tcp"`, `"ftp"`}, {`"scheme":"tcp",`, ``}, {`\r`, strings.Repeat("x", 20)},
		{`"delimiter":"\r"`, `"length_bytes":3`}, {`"delimiter":"\r"`, `"length_bytes":2,"max_frame":-1`}, {`"delimiter"`, `"delimeter"`}, {`:8}`, `:300}`},
		{`:8}`, `:"8"}`}, {`"memory_mb":8`, `"scan":{"over":"ipx","port":1}`}, {`"memory_mb":8`, `"http":{"hosts":"x"}`},
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		_, err := drivers.ParseManifest([]byte(text))
		refused := judge(t, s, text)
		if want := text != good; (err != nil) != want || (refused != nil) != want {
			t.Errorf("%s for %s: the parser says %v, the schema %v", c.to, c.from, err, refused)
		}
	}
}
