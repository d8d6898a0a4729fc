package state

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"google.golang.org/protobuf/types/known/structpb"
)

func TestValues(t *testing.T) {
	for _, c := range []struct {
		in, out string
		kind    Kind
		sample  bool
	}{
		{`null`, `null`, Null, false},
		{`true`, `true`, True, true},
		{` false `, `false`, False, true},
		{`21.40`, `21.4`, Number, true},
		{`-3`, `-3`, Number, true},
		{`1e3`, `1000`, Number, true},
		{"7\n", `7`, Number, true},
		{`"on"`, `"on"`, String, false},
		{`"a\"b\u00e9"`, `"a\"bé"`, String, false},
		{`{"b":[1, 2], "a":null}`, `{"a":null,"b":[1,2]}`, JSON, false},
	} {
		v, err := ParseValue([]byte(c.in))
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if got := string(v.AppendJSON(nil)); got != c.out || v.Kind() != c.kind {
			t.Errorf("%s gives %s of kind %d, want %s of %d", c.in, got, v.Kind(), c.out, c.kind)
		}
		if _, ok := v.Sample(); ok != c.sample {
			t.Errorf("%s: a sample: %v", c.in, ok)
		}
		back, err := FromProto(v.Proto())
		if err != nil || !back.Equal(v) {
			t.Errorf("%s does not survive protobuf: %v, %v", c.in, back, err)
		}
	}
	for _, bad := range []string{``, `nul`, `01`, `1.`, `+1`, `"a`, `{`, `1 2`, `0x10`, `Infinity`, `1e999`} {
		if v, err := ParseValue([]byte(bad)); err == nil {
			t.Errorf("%q was read as %v", bad, v)
		}
	}
	if _, err := FromProto(structpb.NewNumberValue(0)); err != nil {
		t.Error(err)
	}
}

func sample() *Record {
	return &Record{
		Revision: 7, Connection: uint8(pb.Connection_CONNECTION_CONNECTED), ConnectedSince: 40, LastSeen: 1_700_000_000_000,
		Fault: "a fault", Version: "1.2.3", Memory: `{"n":1}`, Wake: 1_700_000_001_000,
		Properties: []Property{
			{Intern("power"), BoolValue(true), At(1_700_000_000_000, 1)},
			{Intern("temperature"), NumberValue(21.4), At(1_699_999_999_000, 1)},
			{Intern("name"), StringValue("Beamer ä"), At(1_700_000_000_001, 3)},
			{Intern("gone"), Value{}, At(1, 1)},
		},
		Desired: []Desired{{Name: Intern("power"), Value: BoolValue(false), Time: 5, By: "key:1", Revision: 3, Progress: 2,
			Error: "", Expires: 9, Priority: 50, Retries: -1, Timeout: 5000}},
		Timers: []Timer{{Name: "poll", Due: 99, Every: 10_000, Data: `{}`}},
		Keys:   []Key{{Key: "k", Time: 4, Outcome: 2, Retryable: true, Code: 3, Message: "no", Output: "1"}},
	}
}

// A record with what few twins have survives, a later version's sections are passed over, and one without is as it was.
func TestMoreSurvives(t *testing.T) {
	plain := sample().Append(nil)
	r := sample()
	r.More = &More{}
	if string(r.Append(nil)) != string(plain) {
		t.Error("an empty More changes the record")
	}
	r.More.Commands = []Command{
		{ID: [16]byte{1, 2}, Action: "beep", Input: `{"action":"beep"}`, Name: "n", Key: "k", By: "me", Priority: 9, Retries: -1, Timeout: 5,
			Time: 6, NotBefore: 7, Until: 8, Phase: 2, AnswerBy: 9, Outcome: 3, Code: -4, Message: "m", Output: "{}", End: 10},
		{ID: [16]byte{3}, Waited: true}, {ID: [16]byte{5}, Patient: true, NoAnswer: true, Clears: true, Idempotent: true, Pause: 12},
		{ID: [16]byte{6}, Waited: true, Clears: true}}
	r.More.Calls = []Call{{ID: [16]byte{4}, Time: 11, Kind: 1, Reply: "abc"}}
	r.More.Subscriptions = []Subscription{{System: "p/room", Name: "Display_1", Property: "power", Stream: 1 << 63, Sequence: 7, Told: 8},
		{Name: "pump", Property: "level"}}
	r.More.Quarantine = Quarantine{Since: 12, Retry: 13, Failures: 14, Reason: "trap", Driver: "d@1", Digest: "ab"}
	r.Timers = append(r.Timers, Timer{Name: "night", Due: 5, Cron: "Europe/Berlin|0 0 3 * * *"})
	b := r.Append(nil)
	got, err := Decode(b)
	if err != nil || !reflect.DeepEqual(r, got) {
		t.Fatalf("decoded\n%+v, %v, want\n%+v", got, err, r)
	}
	for i := range b {
		if _, err := Decode(b[:i]); err == nil {
			t.Errorf("a record cut at %d of %d was read", i, len(b))
		}
	}
	if _, err := DecodeStatus(b); err != nil {
		t.Error(err)
	}
	if n := r.Size(); n < len(b) {
		t.Errorf("size %d of a record of %d bytes", n, len(b))
	}
	later := append([]byte{formatMore}, plain[1:]...)
	later = append(later, 1, 99, 3, 'x', 'y', 'z')
	if got, err = Decode(later); err != nil || got.Revision != r.Revision {
		t.Errorf("a section that is not known: %v", err)
	}
	if s := r.Proto("n", 1).Commands; len(s) != 2 || s[0].Id != "0102000000000000" || s[0].Code != -4 {
		t.Errorf("shown commands %v", s)
	}
}

func TestRecordSurvives(t *testing.T) {
	r := sample()
	b := r.Append(nil)
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r, got) {
		t.Errorf("decoded\n%+v, want\n%+v", got, r)
	}
	s, err := DecodeStatus(b)
	if err != nil || s.Fault != r.Fault || s.Shown(40) != pb.Connection_CONNECTION_CONNECTED || s.Shown(41) != pb.Connection_CONNECTION_CONNECTING {
		t.Errorf("status %+v, %v", s, err)
	}
	for i := range b {
		if _, err := Decode(b[:i]); err == nil {
			t.Errorf("a record cut at %d of %d was read", i, len(b))
		}
	}
	if view := r.View(); !json.Valid(view.AppendJSON(nil)) {
		t.Errorf("the driver's form is no JSON: %s", view.AppendJSON(nil))
	}
	p := r.Proto("n1", 41)
	if q := p.Properties["temperature"].Quality; q != pb.Quality_QUALITY_STALE {
		t.Errorf("after a change of owner a value is %v, want stale", q)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample().Append(nil))
	f.Add([]byte{format})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(r.Append(nil))
		if err != nil || len(again.Properties) != len(r.Properties) {
			t.Fatalf("a record that was read does not survive: %v", err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	r := sample()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = r.Append(buf[:0])
	}
	b.SetBytes(int64(len(buf)))
}

// A number is told from the other kinds whatever its bits are.
func TestNumbersOfAllSizes(t *testing.T) {
	for _, f := range []float64{0, math.Copysign(0, -1), math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, 5e-323, 1, -1.5,
		math.MaxFloat64, -math.MaxFloat64, math.Inf(1), math.Inf(-1), math.NaN(), math.Float64frombits(math.MaxUint64)} {
		v := NumberValue(f)
		got, ok := v.Sample()
		if v.Kind() != Number || !ok || got != f && !(math.IsNaN(got) && math.IsNaN(f)) {
			t.Errorf("%v becomes %v of kind %d", f, got, v.Kind())
		}
	}
	if !NumberValue(0).Equal(NumberValue(math.Copysign(0, -1))) {
		t.Error("0 and -0 differ")
	}
	if (Value{}).Kind() != Null || NumberValue(0).Equal(Value{}) {
		t.Error("null and 0 are the same")
	}
}
