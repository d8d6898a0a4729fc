package main

import (
	"testing"

	"github.com/polluxhq/pollux/drivers/sdk/twintest"
)

func TestEcho(t *testing.T) {
	tw := twintest.New(t, newDriver(), Settings{Greeting: "hello "})
	if r := tw.Command("say", `{"text":"world"}`); r.Output != `{"text":"hello world"}` {
		t.Fatalf("say: %+v", r)
	}
	if r := tw.Command("echo", `{"a": [1,2]}`); r.Output != `{"a": [1,2]}` {
		t.Fatalf("echo: %+v", r)
	}
	for want := range 3 {
		if r := tw.Command("count", ""); r.Output != string(rune('1'+want)) {
			t.Fatalf("count: %+v", r)
		}
	}
	if tw.Memory != `{"calls":3}` || tw.Properties["count"] != "3" {
		t.Fatalf("memory %s, properties %v", tw.Memory, tw.Properties)
	}
	tw.Message("echo/echo/set", `{"level": 7.5, "on":true}`)
	if tw.Properties["level"] != "7.5" || tw.Properties["on"] != "true" {
		t.Fatalf("properties %v", tw.Properties)
	}
	if r := tw.Command("fail", `{"text":"no"}`); r.Err == nil || r.Err.Message != "no" || tw.Properties["level"] != "7.5" {
		t.Fatalf("fail: %+v, properties %v", r, tw.Properties)
	}
}

func TestPendingAndTimer(t *testing.T) {
	tw := twintest.New(t, newDriver(), Settings{})
	if r := tw.Command("ask", `{"text":"?"}`); !r.Pending || tw.TakeSent()[0] != "?" {
		t.Fatalf("ask: %+v", r)
	}
	if r := tw.Reply("wait"); !r.Pending {
		t.Fatalf("first answer: %+v", r)
	}
	if r := tw.Reply("42"); r.Pending || r.Output != `{"text":"42"}` {
		t.Fatalf("second answer: %+v", r)
	}
	tw.Command("tick", `{"after_ms":50}`)
	tw.Fire("tick")
	if len(tw.Events) != 1 || tw.Events[0] != (twintest.Event{Name: "ticked", Data: `"tock"`}) {
		t.Fatalf("events %v", tw.Events)
	}
	if r := tw.Command("say", `{"text":5}`); r.Err == nil || r.Err.Message != "say: input/text: 5 is no string" {
		t.Fatalf("wrong input: %+v", r.Err)
	}
	if r := tw.Set("nope", `5`); r.Err == nil || r.Err.Code != 100 {
		t.Fatalf("unknown property: %+v", r.Err)
	}
}
