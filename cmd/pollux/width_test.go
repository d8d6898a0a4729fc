package main

import (
	"bytes"
	"io"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// A twin's long texts are cut to the width of the terminal, so that what is beside them can be read.
func TestLongTextsAreCut(t *testing.T) {
	long := structpb.NewStringValue(strings.Repeat("ü", 5000))
	twin := &pb.Twin{Id: "default/a", State: &pb.TwinState{
		Properties: map[string]*pb.Property{"text": {Value: long, Time: timestamppb.New(noon)}, "short": {Value: structpb.NewStringValue("sixteen letters!")}},
		Desired:    map[string]*pb.Desired{"text": {Value: long, Error: strings.Repeat("no ", 100)}},
	}}
	for _, width := range []int{80, 200, 20} {
		text := table(func(w io.Writer) { describeTwin(w, twin, noon, width) })
		for _, line := range strings.Split(string(text), "\n") {
			before, _, _ := strings.Cut(line, "no no")
			if n := utf8.RuneCountInString(strings.TrimRight(before, " ")); n > max(width, 2*leastCell+50) {
				t.Errorf("a line of %d characters for %d: %s", n, width, line)
			}
		}
		if bytes.Count(text, []byte("ü…")) != 2 || !bytes.Contains(text, []byte("sixteen letters!")) {
			t.Errorf("for %d:\n%s", width, text)
		}
	}
	if width := widthOf(&bytes.Buffer{}); width != math.MaxInt {
		t.Errorf("no terminal is %d wide", width)
	}
}
