package main

import (
	"testing"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/twintest"
)

func TestLine(t *testing.T) {
	tw := twintest.New(t, newDriver(), twin.None{})
	if r := tw.Command("do", `{"number":7}`); !r.Pending || tw.TakeSent()[0] != "do 7\n" {
		t.Fatalf("do: %+v", r)
	}
	if r := tw.Reply("do 7"); r.Output != "7" || tw.Properties["number"] != "7" {
		t.Fatalf("its answer: %+v, properties %v", r, tw.Properties)
	}
	if r := tw.Set("level", `2.5`); !r.Pending || tw.TakeSent()[0] != "level 2.5\n" {
		t.Fatalf("set: %+v", r)
	}
	if r := tw.Reply("level 2.5"); r.Err != nil || tw.Properties["level"] != "2.5" {
		t.Fatalf("its answer: %+v, properties %v", r, tw.Properties)
	}
	tw.Command("ping", "")
	if r := tw.Reply("what"); r.Err == nil {
		t.Fatalf("a wrong answer: %+v", r)
	}
}
