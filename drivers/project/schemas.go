package project

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
)

// withSchemas completes the manifest of a driver in Go from the driver's types, where it says "schemas": "types": the driver is run natively,
// and says what it was registered with. What the manifest has itself stays, and must agree on the types.
func (p *Project) withSchemas(ctx context.Context, manifest []byte) ([]byte, error) {
	var m map[string]any
	if json.Unmarshal(manifest, &m) != nil || m["schemas"] == nil {
		return manifest, nil // what is wrong with it is told by the check
	}
	if m["schemas"] != "types" {
		return nil, fmt.Errorf("schemas: %v: want \"types\", or none", m["schemas"])
	}
	delete(m, "schemas")
	dir, err := os.MkdirTemp("", "pollux-schemas-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "schemas.json")
	if err := p.run(ctx, []string{twin.SchemasTo + "=" + path, "CGO_ENABLED=0", "GOOS=", "GOARCH="}, "go", "run", "."); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the driver did not say its schemas; its SDK may be older, or it does not call twin.Serve: %w", err)
	}
	var types map[string]any
	if err := json.Unmarshal(text, &types); err != nil {
		return nil, fmt.Errorf("schemas of the driver's types: %w", err)
	}
	return complete(m, types)
}

// complete adds to a manifest what it lacks of the types' schemas.
func complete(m, types map[string]any) ([]byte, error) {
	add := map[string]any{"settings": types["settings"], "model": map[string]any{"actions": types["actions"], "properties": types["properties"]}}
	if err := fill(m, add, ""); err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

// fill gives an object the members that it lacks. Where both say a type it is the same.
func fill(object, more map[string]any, at string) error {
	for key, value := range more {
		has, there := object[key]
		if !there {
			object[key] = value
			continue
		}
		inner, isObject := has.(map[string]any)
		below, both := value.(map[string]any)
		switch {
		case isObject && both:
			if err := fill(inner, below, at+"/"+key); err != nil {
				return err
			}
		case key == "type" && !reflect.DeepEqual(has, value) && !(has == "number" && value == "integer"):
			return fmt.Errorf("%s/type is %v, and %v in the driver's source", at, has, value)
		}
	}
	return nil
}
