package twin_test

import (
	"fmt"
	"testing"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/twintest"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// runMemory is what a run remembers: of the twin that a message is about, and of all.
type runMemory struct {
	Twin   memory `json:"twin"`
	Script memory `json:"script"`
}

// TestRunOfALogic: OnRun is given the message with its context and what it remembers, and its verdict is the call's output.
func TestRunOfALogic(t *testing.T) {
	d := twin.New[settings, runMemory]()
	var about []string
	d.OnRun(func(t *twin.Twin[settings, runMemory], message wire.Value, c twin.Context) (twin.Verdict, error) {
		about = append(about, fmt.Sprint(c.Twin, " ", c.By, " ", c.Time))
		t.Memory().Twin.Seen++
		t.Memory().Script.Seen++
		switch n, _ := message.Get("value").Int(); n {
		case 1:
			return twin.Pass, nil
		case 2:
			return twin.Stop, nil
		case 3:
			return twin.Verdict{}, &twin.Error{Code: 9, Message: "not three"}
		}
		return twin.Replace(map[string]any{"seen": t.Memory().Twin.Seen}), nil
	})
	l := twintest.New(t, d, settings{Name: "x"})
	run := func(value int) twintest.Result {
		return l.Event(twin.EventRun, fmt.Sprintf(`{"message":{"value":%d},"context":{"twin":"default/a","by":"route/default/r","time":5}}`, value))
	}
	for value, want := range map[int]string{1: "null", 2: `{"stop":true}`} {
		if r := run(value); r.Err != nil || r.Output != want {
			t.Errorf("of %d it says %+v, want %s", value, r, want)
		}
	}
	if r := run(4); r.Output != `{"replace":{"seen":3}}` {
		t.Errorf("it replaces by %+v", r)
	}
	if r := run(3); r.Err == nil || r.Err.Code != 9 || r.Err.Message != "not three" {
		t.Errorf("it refuses by %+v", r)
	}
	if l.Memory != `{"twin":{"seen":3},"script":{"seen":3}}` {
		t.Errorf("it remembers %s", l.Memory)
	}
	if len(about) != 4 || about[0] != "default/a route/default/r 5" {
		t.Errorf("it was told of %q", about)
	}
	if r := l.Event(twin.EventRun, `{"message":1,"context":5}`); r.Err == nil {
		t.Error("a context that is none is taken")
	}
	if r := twintest.New(t, twin.New[settings, memory](), settings{}).Event(twin.EventRun, `{"message":1,"context":{}}`); r.Err != nil || r.Output != "" {
		t.Errorf("a driver without a run says %+v", r)
	}
}
