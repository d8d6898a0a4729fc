package drivers

import (
	_ "embed"
	"slices"
)

//go:embed manifest.schema.json
var manifestSchema []byte

// ManifestSchema is the JSON Schema (2020-12) of a manifest, for editors and for tools in other languages. What it cannot
// say, such as that a {SETTING} is there, ParseManifest checks besides.
func ManifestSchema() []byte { return slices.Clone(manifestSchema) }
