package rpc

import (
	"bytes"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

func TestCodecsBoundWhatTheyDecode(t *testing.T) {
	refused := metrics.NewSet().NewCounter("refused")
	text, binary := &jsonCodec{"json", refused}, &binaryCodec{refused}
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, tt := range []struct{ name, body, want string }{
		{"deep", nested(maxDepth), ""},
		{"too deep", nested(maxDepth + 1), "more than 100 levels"},
		{"objects too deep", strings.Repeat(`{"a":`, 101) + "1" + strings.Repeat("}", 101), "more than 100 levels"},
		{"too deep and cut off", strings.Repeat("[", 1<<20), "more than 100 levels"},
		{"wide", "[0" + strings.Repeat(",0", maxValues-1) + "]", ""},
		{"too wide", "[0" + strings.Repeat(",0", maxValues) + "]", "more than 20000 values"},
		{"brackets in strings", `["` + strings.Repeat("[{,", maxValues) + `\\\"[[\\"]`, ""},
		{"string without end", `["` + strings.Repeat("[", maxValues), "unexpected EOF"},
		{"empty", "", "no JSON object"},
	} {
		before := refused.Get()
		err := text.Unmarshal([]byte(tt.body), &structpb.Value{})
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %.200v, want %q", tt.name, err, tt.want)
		}
		if counted := refused.Get() - before; (counted == 1) != (err != nil) {
			t.Errorf("%s: counted %d times", tt.name, counted)
		}
	}

	value := structpb.NewNumberValue(1)
	for range maxDepth {
		value = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{value}})
	}
	for _, c := range []interface {
		Marshal(any) ([]byte, error)
		MarshalStable(any) ([]byte, error)
		Unmarshal([]byte, any) error
	}{text, binary} {
		for _, marshal := range []func(any) ([]byte, error){c.Marshal, c.MarshalStable} {
			data, err := marshal(value)
			var back structpb.Value
			if err == nil {
				err = c.Unmarshal(data, &back)
			}
			if err != nil || !proto.Equal(value, &back) {
				t.Errorf("%T: there and back: %v", c, err)
			}
		}
		if err := c.Unmarshal([]byte("{}"), "text"); err == nil {
			t.Errorf("%T decodes into a string", c)
		}
	}
	for range 2 * maxDepth {
		value = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{value}})
	}
	deep, err := binary.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if err := binary.Unmarshal(deep, &structpb.Value{}); err == nil {
		t.Error("300 levels in binary are decoded")
	}
}

func FuzzCheckShape(f *testing.F) {
	for _, seed := range []string{`{"a":[1,"\"]",{}]}`, `"\\"`, `"\`, `[[[`, `]]]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if end := stringEnd(append([]byte{'"'}, data...), 0); end < 1 || end > len(data)+1 {
			t.Errorf("a string of %d bytes ends at %d", len(data), end)
		}
		if err := checkShape(data); err != nil && bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) <= maxDepth &&
			len(data) < maxValues {
			t.Errorf("refused: %v", err)
		}
	})
}
