package twin_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/twintest"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

type settings struct {
	Name string `json:"name"`
}

type memory struct {
	Seen int `json:"seen"`
}

type tw = twin.Twin[settings, memory]

func newTwin(t *testing.T, set func(d *twin.Driver[settings, memory])) *twintest.Twin {
	d := twin.New[settings, memory]()
	set(d)
	return twintest.New(t, d, settings{Name: "x"})
}

func TestEveryEventReachesItsFunction(t *testing.T) {
	var got []string
	note := func(format string, args ...any) error {
		got = append(got, fmt.Sprintf(format, args...))
		return nil
	}
	d := newTwin(t, func(d *twin.Driver[settings, memory]) {
		d.OnLoad(func(t *tw, reason string) error { return note("load %s %s", reason, t.Settings().Name) })
		d.OnConnected(func(*tw) error { return note("connected") })
		d.OnDisconnected(func(_ *tw, reason string) error { return note("disconnected %s", reason) })
		d.OnMessage(func(_ *tw, topic string, payload []byte) error { return note("%s=%s", topic, payload) })
		d.OnUnload(func(*tw) error { return note("unload") })
		d.OnMigrate(func(_ *tw, from string) error { return note("migrate %s", from) })
	})
	d.Load("start")
	d.Connect()
	d.Message("a/b", "on")
	d.Receive("no topic's end")
	d.Disconnect("gone")
	d.Event(twin.EventMigrate, `{"from":"1.0.0"}`)
	d.Event(twin.EventUnload, `{}`)
	d.Event(9, `{"twin":"x"}`)
	want := "[load start x connected a/b=on no topic's end= disconnected gone migrate 1.0.0 unload]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
	if r := d.Event(twin.EventTimer, "{"); r.Err == nil {
		t.Error("a broken input is taken")
	}
}

func TestWhatATwinCanDo(t *testing.T) {
	d := newTwin(t, func(d *twin.Driver[settings, memory]) {
		d.OnConnected(func(t *tw) error {
			t.Report("on", true)
			t.Report("text", "a\"b")
			t.ReportAs("level", 2.5, twin.Stale, time.UnixMilli(5))
			t.Log("warn", "hm")
			return errors.Join(t.Send([]byte("hi")), t.Publish("a/b", []byte("on"), 1, true), t.Emit("e", []int{1}),
				t.After("once", 1500*time.Millisecond, nil), t.Every("often", time.Second, "x"), t.Describe(map[string]any{"title": "T"}),
				t.Discover(twin.Discovery{Network: "n", Key: "k", Value: "v", Settings: wire.Value(`{"a":1}`)}))
		})
		d.OnTimer("often", func(t *tw, data wire.Value) error {
			t.Report("seen", string(data))
			return t.Cancel("once")
		})
		twin.Command(d, "ask", func(t *tw, in string) (string, error) {
			reply, err := t.Request([]byte(in), time.Second)
			return string(reply), err
		})
	})
	if r := d.Connect(); r.Err != nil {
		t.Fatal(r.Err)
	}
	if fmt.Sprint(d.Properties, d.Qualities) != `map[level:2.5 on:true text:"a\"b"] map[level:stale]` {
		t.Error(d.Properties, d.Qualities)
	}
	if fmt.Sprint(d.TakeSent(), d.TakePublished(), d.Events, d.Logs) != `[hi] [{a/b on 1 true}] [{e [1]}] [warn hm]` {
		t.Error(d.Sent, d.Published, d.Events, d.Logs)
	}
	if fmt.Sprint(d.Described, d.Discovered) != `[{"title":"T"}] [{"network":"n","key":"k","value":"v","settings":{"a":1}}]` {
		t.Error(d.Described, d.Discovered)
	}
	if len(d.Timers) != 2 || d.Timers["once"].After != 1500*time.Millisecond || d.Timers["often"].Every != time.Second {
		t.Error(d.Timers)
	}
	if d.Fire("often"); len(d.Timers) != 1 || d.Properties["seen"] != `"\"x\""` {
		t.Error(d.Timers, d.Properties)
	}
	if r := d.Command("ask", `"q"`); r.Err == nil || r.Err.Code != 103 || !r.Err.Retryable {
		t.Errorf("a request without an answer: %+v", r.Err)
	}
	d.Answer = func(frame string) (string, twin.Code) { return frame + "!", 0 }
	if r := d.Command("ask", `"q"`); r.Output != `"q!"` {
		t.Errorf("%+v", r)
	}
}

func TestMemoryIsKeptWhenTheCallSucceeds(t *testing.T) {
	d := newTwin(t, func(d *twin.Driver[settings, memory]) {
		d.OnReceived(func(t *tw, frame []byte) error {
			t.Memory().Seen++
			if string(frame) == "bad" {
				return &twin.Error{Code: 7, Message: "bad frame"}
			}
			return nil
		})
		d.OnConnected(func(t *tw) error { _ = t.Memory().Seen; return nil })
	})
	d.Receive("one")
	d.Receive("two")
	if r := d.Receive("bad"); r.Err == nil || r.Err.Code != 7 {
		t.Errorf("%+v", r)
	}
	if d.Memory != `{"seen":2}` {
		t.Error(d.Memory)
	}
	d.Refuse["state_set"] = twin.ErrTooLarge
	if r := d.Connect(); r.Err != nil {
		t.Errorf("memory that was only read is written: %v", r.Err)
	}
	if r := d.Receive("three"); r.Err == nil || r.Err.Code != 105 || d.Memory != `{"seen":2}` {
		t.Errorf("refused memory: %+v, %s", r, d.Memory)
	}
}

func TestRefusalsOfTheHostKeepTheirKind(t *testing.T) {
	d := newTwin(t, func(d *twin.Driver[settings, memory]) {
		twin.Property(d, "on", func(t *tw, on bool) error {
			err := t.Send([]byte{1})
			if errors.Is(err, twin.ErrDisconnected) {
				return fmt.Errorf("power: %w", err)
			}
			return err
		})
	})
	d.Refuse["send"] = twin.ErrDisconnected
	if r := d.Set("on", "true"); r.Err == nil || r.Err.Code != 104 || !r.Err.Retryable || r.Err.Message != "power: not connected" {
		t.Errorf("%+v", r.Err)
	}
	d.Refuse["send"] = twin.ErrDenied
	if r := d.Set("on", "true"); r.Err == nil || r.Err.Code != 102 || r.Err.Retryable {
		t.Errorf("%+v", r.Err)
	}
	if r := d.Set("on", "5"); r.Err == nil || r.Err.Message != "on: value: 5 is no boolean" {
		t.Errorf("%+v", r.Err)
	}
}

func TestWriteTakesWhatNoPropertyWasRegisteredFor(t *testing.T) {
	var got []string
	d := newTwin(t, func(d *twin.Driver[settings, memory]) {
		twin.Property(d, "on", func(*tw, bool) error { got = append(got, "on"); return nil })
		d.OnWrite(func(_ *tw, property string, value wire.Value) error {
			got = append(got, property+"="+string(value))
			return nil
		})
	})
	d.Set("on", "true")
	d.Set("found", `"x"`)
	if len(got) != 2 || got[0] != "on" || got[1] != `found="x"` {
		t.Errorf("%q", got)
	}
}
