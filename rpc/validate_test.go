package rpc

import (
	"strings"
	"testing"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestFastValidAgrees: whatever the short way lets through, the rules let through. Lengths stand around the limits.
func TestFastValidAgrees(t *testing.T) {
	validator, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{"", "a", "ä", strings.Repeat("a", 128), strings.Repeat("a", 129), strings.Repeat("ä", 128),
		strings.Repeat("a", 260), strings.Repeat("a", 261)}
	options := []*pb.CommandOptions{nil, {}, {Priority: 101}, {Name: strings.Repeat("a", 129)}}
	var fast, slow int
	check := func(m proto.Message) {
		t.Helper()
		valid := validator.Validate(m) == nil
		switch {
		case fastValid(m) && !valid:
			t.Errorf("let through: %v", m)
		case fastValid(m):
			fast++
		case valid:
			slow++
		}
	}
	for _, a := range texts {
		for _, b := range texts {
			for _, o := range options {
				for _, c := range texts {
					check(&pb.InvokeRequest{Id: a, Action: b, IdempotencyKey: c, Options: o})
				}
				check(&pb.SetDesiredRequest{Id: a, Property: b, Options: o})
				check(&pb.SetDesiredRequest{Id: a, Property: b, Options: o, Value: structpb.NewNumberValue(1), ValidFor: durationpb.New(-1)})
				check(&pb.SetDesiredRequest{Id: a, Property: b, Options: o, Value: structpb.NewNumberValue(1)})
			}
		}
	}
	if fast == 0 || slow == 0 {
		t.Errorf("%d went the short way, %d valid ones the long way; want some of both", fast, slow)
	}
	if fastValid(&pb.GetTwinRequest{Id: "a"}) {
		t.Error("another message went the short way")
	}
}

func TestValidationErrorNamesTheField(t *testing.T) {
	validator, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	err = validator.Validate(&pb.InvokeRequest{Id: "a", Action: "b", Options: &pb.CommandOptions{Priority: 101}})
	if err == nil {
		t.Fatal("valid")
	}
	if got := validationError(err).Error(); !strings.HasPrefix(got, "options.priority: ") || !strings.Contains(got, "100") {
		t.Errorf("got %q", got)
	}
}

func TestDurationsHaveBounds(t *testing.T) {
	validator, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	for _, tt := range []struct {
		d                        time.Duration
		delay, timeout, validFor bool
	}{
		{-time.Nanosecond, false, false, false},
		{-time.Hour, false, false, false},
		{0, true, true, true},
		{time.Hour, true, true, true},
		{time.Hour + 1, true, false, true},
		{7 * day, true, false, true},
		{7*day + 1, false, false, false},
	} {
		d := durationpb.New(tt.d)
		for name, c := range map[string]struct {
			m  proto.Message
			ok bool
		}{
			"options.delay":   {&pb.InvokeRequest{Id: "a", Action: "b", Options: &pb.CommandOptions{Delay: d}}, tt.delay},
			"options.timeout": {&pb.InvokeRequest{Id: "a", Action: "b", Options: &pb.CommandOptions{Timeout: d}}, tt.timeout},
			"valid_for":       {&pb.SetDesiredRequest{Id: "a", Property: "b", Value: structpb.NewNullValue(), ValidFor: d}, tt.validFor},
		} {
			err := validator.Validate(c.m)
			if (err == nil) != c.ok || err != nil && !strings.HasPrefix(validationError(err).Error(), name+": ") {
				t.Errorf("%s of %s: got %v, want allowed %v", name, tt.d, err, c.ok)
			}
		}
	}
}

func TestIDs(t *testing.T) {
	for id, want := range map[string]string{"pump": "default/pump", "a/b": "a/b", "a-1/b.c_d-2": "a-1/b.c_d-2"} {
		project, name, err := splitID(id)
		if err != nil || project+"/"+name != want || canonicalID(id) != want {
			t.Errorf("%s: got %s/%s %s, %v", id, project, name, canonicalID(id), err)
		}
	}
	for _, id := range []string{"", "/", "a/", "/a", "a/b/c", "A", "-a", ".a/b", "a b", "ä", "a.b/c", strings.Repeat("a", 65) + "/b",
		strings.Repeat("a", 129), "a\x00"} {
		if project, name, err := splitID(id); err == nil {
			t.Errorf("%q was taken as %s and %s", id, project, name)
		}
	}
}
