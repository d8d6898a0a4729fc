package conformance

import (
	"testing"

	"github.com/polluxhq/pollux/drivers"
)

// A value that is thought of has in each place of a list what belongs there, however the schema says it.
func TestSamplesOfLists(t *testing.T) {
	for schema, want := range map[string]string{
		`{"type":"array","items":[{"type":"number","minimum":5},{"type":"string"}]}`:                 `[5,"x"]`,
		`{"type":"array","prefixItems":[{"type":"string"}],"items":{"type":"boolean"},"minItems":3}`: `["x",true,true]`,
		`{"type":"array","prefixItems":[{"type":"string"}],"items":false}`:                           `["x"]`,
		`{"type":"array","items":{"type":"array","items":[{"type":"boolean"},{"enum":["km"]}]}}`:     `[[true,"km"]]`,
		`{"type":"array","items":{"type":"integer"}}`:                                                `[1]`,
	} {
		m, err := drivers.NewModel(&drivers.Manifest{Model: []byte(`{"properties":{"a":` + schema + `}}`)})
		if err != nil {
			t.Fatal(err)
		}
		got := sampleOf(m.Property("a").Schema)[0]
		if got != want {
			t.Errorf("%s: %s, want %s", schema, got, want)
		}
		if err := m.ValidateProperty("a", []byte(got)); err != nil {
			t.Error(err)
		}
	}
}
