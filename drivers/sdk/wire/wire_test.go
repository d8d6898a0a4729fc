package wire

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestValueWalksADocument(t *testing.T) {
	v, err := Parse([]byte(` {"a": {"b": [1, 2.5, "x\n\u00e9\ud83d\ude00", null, true]}, "n\u0061me": -0.5e1} `))
	if err != nil {
		t.Fatal(err)
	}
	list := v.Get("a", "b")
	if n, ok := list.Index(0).Int(); !ok || n != 1 {
		t.Errorf("index 0: %d, %v", n, ok)
	}
	if _, ok := list.Index(1).Int(); ok {
		t.Error("2.5 is whole")
	}
	if s, ok := list.Index(2).Text(); !ok || s != "x\né😀" {
		t.Errorf("index 2: %q, %v", s, ok)
	}
	if list.Index(3).Exists() || list.Index(3).Kind() != Null || list.Index(5) != nil {
		t.Error("null or beyond the end")
	}
	if b, ok := list.Index(4).Bool(); !ok || !b {
		t.Error("index 4")
	}
	if f, ok := v.Get("name").Float(); !ok || f != -5 {
		t.Errorf("name: %v, %v", f, ok)
	}
	if v.Get("a", "c") != nil || v.Get("name", "x") != nil {
		t.Error("a member that is not there")
	}
	var keys []string
	v.Members(func(key []byte, _ Value) bool { keys = append(keys, string(key)); return true })
	if strings.Join(keys, " ") != "a name" {
		t.Errorf("keys %q", keys)
	}
}

func TestInt(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "-7": -7, "3.0": 3, "1e3": 1000, "9223372036854775807": math.MaxInt64} {
		if n, ok := Value(text).Int(); !ok || n != want {
			t.Errorf("%s: %d, %v", text, n, ok)
		}
	}
	for _, text := range []string{"9223372036854775808", "1e300", "0.1", `"1"`, "true"} {
		if n, ok := Value(text).Int(); ok {
			t.Errorf("%s is %d", text, n)
		}
	}
}

type inner struct {
	X float64 `json:"x"`
}

type tree struct {
	Name string  `json:"name"`
	Next *tree   `json:"next,omitempty"`
	Kids []inner `json:"kids,omitempty"`
}

type all struct {
	B     bool             `json:"b"`
	I     int8             `json:"i"`
	U     uint16           `json:"u,omitempty"`
	F     float32          `json:"f"`
	S     string           `json:"s"`
	P     *inner           `json:"p"`
	L     []string         `json:"l"`
	M     map[string]inner `json:"m"`
	Raw   Value            `json:"raw,omitempty"`
	Any   any              `json:"any"`
	Plain int
	Skip  int `json:"-"`
	T     *tree
}

func TestCodecGoesBothWaysAsTheStandardLibrary(t *testing.T) {
	in := all{B: true, I: -8, F: 0.1, S: "a\"\\\n\x01é<", P: &inner{2}, L: []string{"x", ""}, M: map[string]inner{"b": {1}, "a": {-1e30}},
		Any: map[string]any{"k": []any{1.0, nil, "s", true}}, Plain: 3, Skip: 9, T: &tree{Name: "r", Next: &tree{Name: "n", Kids: []inner{{4}}}}}
	b, err := Append(nil, &in)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"f":0.1,`) {
		t.Errorf("a float32 is written as in %s", b)
	}
	var viaStd, viaUs all
	if err := json.Unmarshal(b, &viaStd); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if err := Unmarshal(b, &viaUs); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	want := in
	want.Skip = 0
	if !reflect.DeepEqual(viaStd, want) {
		t.Errorf("the standard library reads %s as %+v", b, viaStd)
	}
	if !reflect.DeepEqual(viaUs, want) {
		t.Errorf("we read %s as %+v", b, viaUs)
	}
}

func TestDecodeErrorsNameThePath(t *testing.T) {
	for text, want := range map[string]string{
		`{"i":300}`:              "/i: 300 is no int8",
		`{"m":{"a":{"x":"1"}}}`:  `/m/a/x: "1" is no number`,
		`{"l":["a",5]}`:          "/l/1: 5 is no string",
		`{"T":{"next":[]}}`:      "/T/next: [] is no object",
		`{"u":-1}`:               "/u: -1 is no uint16",
		`{"b":"` + long() + `"}`: "is no boolean",
	} {
		var v all
		if err := Unmarshal([]byte(text), &v); err == nil || !strings.HasSuffix(err.Error(), want) && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	if _, err := Append(nil, struct{ C chan int }{}); err == nil || !strings.Contains(err.Error(), "chan int has no JSON") {
		t.Errorf("a channel: %v", err)
	}
	var x int
	if Unmarshal([]byte("1"), x) == nil || Unmarshal([]byte("1 2"), &x) == nil {
		t.Error("no pointer, or two values, are taken")
	}
}

func long() string { return strings.Repeat("x", 100) }

func TestDepthIsBounded(t *testing.T) {
	deep := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	if !Valid(deep(MaxDepth)) || Valid(deep(MaxDepth+1)) || Valid(deep(1_000_000)) {
		t.Error("the bound does not hold")
	}
}

// FuzzValid compares with the standard library, which is laxer in two ways: depth, and text that is not UTF-8.
func FuzzValid(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e-3,"\u00e9\n",null,true]}`, `-`, `01`, `1.`, `"\x"`, `{"a"}`, `[1,]`, "\"\x01\"", `{"":{}}`, "\xff", `"\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ours := Valid(b)
		std := json.Valid(b) && utf8.Valid(b)
		if ours && !std || !ours && std && strings.Count(string(b), "[")+strings.Count(string(b), "{") <= MaxDepth {
			t.Fatalf("%q: ours %v, the standard library's %v", b, ours, std)
		}
		if !ours {
			return
		}
		v, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		var want any
		if err := json.Unmarshal(b, &want); err != nil {
			return // a number beyond float64
		}
		if text, ok := v.Text(); ok && text != want {
			t.Fatalf("%q: got %q, want %q", b, text, want)
		}
		if again, err := Append(nil, v.Any()); err != nil || !Valid(again) {
			t.Fatalf("%q: written back as %q, %v", b, again, err)
		}
		if text, ok := want.(string); ok && string(AppendString(nil, text)) != string(must(Append(nil, text))) {
			t.Fatal("two ways to write a string")
		}
	})
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\x00\"\\\xffé")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(AppendString(nil, s), &got); err != nil || got != strings.ToValidUTF8(s, "\uFFFD") && utf8.ValidString(s) {
			t.Fatalf("%q: %q, %v", s, got, err)
		}
	})
}

// BenchmarkParse reads 200 bytes as a device sends them.
func BenchmarkParse(b *testing.B) {
	doc := []byte(`{"Time":"2026-11-20T17:00:00","UptimeSec":611,"Heap":24,"POWER":"OFF","Dimmer":2,"HSBColor":"25,100,2","CT":153,"Wifi":{"RSSI":44,"Signal":-78},"ENERGY":{"Total":3.18,"Today":0.05,"Power":7,"Voltage":230}}`)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(doc); err != nil {
			b.Fatal(err)
		}
	}
}
