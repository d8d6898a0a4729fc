package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// reread gives a record as it is read from what an export writes of it.
func reread(t *testing.T, rec *pb.ConfigRecord) *pb.ConfigRecord {
	t.Helper()
	var b bytes.Buffer
	if err := (&app{out: &b}).exportRecord(rec); err != nil {
		t.Errorf("export %v: %v", rec, err)
		return nil
	}
	lines, err := parseConfig(strings.NewReader(b.String()), "x.yaml", "p")
	if err != nil || len(lines) != 1 {
		t.Errorf("read %q: %v", b.String(), err)
		return nil
	}
	return lines[0].rec
}

// TestTextAsWritten: whatever text is in a record, what is exported reads as it was: as a value, as a name, alone, between others and after spaces.
func TestTextAsWritten(t *testing.T) {
	texts := []string{"", "yes", "No", "on", "~", "null", "true", "007", "1e3", "0x1F", "0o7", "1_000", ".inf", "2026-01-01", "12:30:45", "<<", "=", "-", "? a", ": ", "# x", "a: b", "a #b", "&a", "*a",
		"!t", "%x", "@x", "`x", "|", ">", "'", `"`, `\`, "---", "...", "a\n", "\na", "\n a\n", " \n", "a\n\n", "a \nb", "\ta\nb", "a\tb", "{", "[", "]", "a,b", strings.Repeat("long ", 400)}
	runes := []rune{0xd7ff, 0xe000, 0xfeff, 0xfffd, 0xfffe, 0xffff, 0x1f600, 0x10ffff}
	for c := range rune(0x180) {
		runes = append(runes, c, 0x2000+c)
	}
	for _, c := range runes {
		texts = append(texts, string(c), fmt.Sprintf("a%cb", c), fmt.Sprintf("a %c b\n", c))
	}
	values := &structpb.Struct{Fields: map[string]*structpb.Value{"empty": structpb.NewStructValue(&structpb.Struct{}), "none": structpb.NewNullValue(),
		"list": structpb.NewListValue(&structpb.ListValue{}), "number": structpb.NewNumberValue(1e21), "small": structpb.NewNumberValue(-1.5e-9), "yes": structpb.NewBoolValue(true)}}
	all := &structpb.ListValue{}
	for _, s := range texts {
		values.Fields[s], values.Fields["name "+s] = structpb.NewStringValue(s), structpb.NewStringValue(s)
		all.Values = append(all.Values, structpb.NewStringValue(s))
	}
	values.Fields["all"] = structpb.NewListValue(all)
	rec := &pb.ConfigRecord{Record: &pb.ConfigRecord_Twin{Twin: &pb.Twin{Id: "p/t", Settings: values}}}
	got := reread(t, rec)
	if got == nil || proto.Equal(got, rec) {
		return
	}
	for name, want := range values.Fields {
		if v := got.GetTwin().Settings.Fields[name]; !proto.Equal(v, want) {
			t.Errorf("%q: %q became %q", name, want, v)
		}
	}
	for i, v := range got.GetTwin().Settings.Fields["all"].GetListValue().GetValues() {
		if v.GetStringValue() != texts[i] {
			t.Errorf("%q became %q", texts[i], v.GetStringValue())
		}
	}
}

// TestThingAsSent: a Thing Model may be laid out and escaped as JSON allows.
func TestThingAsSent(t *testing.T) {
	thing := "{\n\t\"title\"\n : \"\\ud83d\\ude00 \\/ \\u007f\u007f\", \"" + strings.Repeat("n", 2000) + "\" : [ ]\n}"
	rec := reread(t, &pb.ConfigRecord{Record: &pb.ConfigRecord_Model{Model: &pb.Model{Id: "p/m", ThingJson: thing}}})
	if want := `{"title":"😀 / ` + "\u007f\u007f" + `","` + strings.Repeat("n", 2000) + `":[]}`; rec.GetModel().GetThingJson() != want {
		t.Errorf("became %q", rec.GetModel().GetThingJson())
	}
}
