package drivers

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The short way of reading a value gives what the long one does, or leaves it to that.
func TestPlainValues(t *testing.T) {
	short := 0
	for _, text := range []string{`null`, `true`, `false`, `0`, `-1`, `21.50`, `1e3`, `-0.5E-2`, `""`, `"on"`, `"a b"`, `"ä"`, `"a\nb"`, `"a"b"`,
		`01`, `1.`, `-`, `--1`, `+1`, `1 `, ` 1`, `1 2`, `"a`, `"`, `nul`, `trueish`, `{}`, `[1]`, `{"a":1}`, "\"a\x01\"", "\"\xff\"", `1e999`} {
		want, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(text)))
		got, ok := plainValue([]byte(text))
		if !ok {
			continue
		}
		short++
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v, want %#v, %v", text, got, want, err)
		}
	}
	if short < 12 {
		t.Errorf("%d went the short way", short)
	}
}
