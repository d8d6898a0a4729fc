package actors_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func TestInvokeAndState(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	if got := n.must("a", "echo", `{"x":[1,"two",null]}`); got != `{"x":[1,"two",null]}` {
		t.Errorf("echo gave %s", got)
	}
	n.must("default/a", "report", `{"level":21.5,"on":true,"label":"north"}`)
	s := n.state("a")
	for name, want := range map[string]string{"level": "21.5", "on": "true", "label": `"north"`, "reason": `"start"`, "topic": `"probe"`} {
		p := s.Properties[name]
		if p == nil || text(p.Value) != want || p.Quality != pb.Quality_QUALITY_GOOD || time.Since(p.Time.AsTime()) > time.Minute {
			t.Errorf("%s is %v, want %s", name, p, want)
		}
	}
	if s.Status.Connection != pb.Connection_CONNECTION_NONE || s.Status.Node != "n1" || s.Status.Fault != "" || s.Revision == 0 {
		t.Errorf("status %v, revision %d", s.Status, s.Revision)
	}
	withModel, err := n.client.State(ctx(t), "a", true)
	if err != nil || !strings.Contains(withModel.ModelJson, `"Probe"`) {
		t.Errorf("model %.60s, %v", withModel.GetModelJson(), err)
	}
}

func TestRefusals(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	for _, c := range []struct {
		id, action, input, path string
		is                      error
	}{
		{"a", "send", `{"text":7}`, "/input/text", actors.ErrInvalid},
		{"a", "send", ``, "/input", actors.ErrInvalid},
		{"a", "nothing", ``, "/action", actors.ErrInvalid},
		{"b", "echo", `1`, "", actors.ErrNotFound},
		{"Nope!", "echo", `1`, "/id", actors.ErrInvalid},
	} {
		_, err := n.invoke(c.id, c.action, c.input)
		var field *actors.InvalidError
		if !errors.Is(err, c.is) || c.path != "" && (!errors.As(err, &field) || field.Path != c.path) {
			t.Errorf("%s %s on %s: %v, want %v at %q", c.action, c.input, c.id, err, c.is, c.path)
		}
	}
	_, err := n.invoke("a", "fail", `{"text":"no way"}`)
	var failed *actors.CommandError
	if !errors.As(err, &failed) || failed.Outcome != pb.Outcome_OUTCOME_REJECTED || failed.Code != 7 || failed.Message != "no way" {
		t.Errorf("fail: %v", err)
	}
	if n.engine.Stats().Dropped["invalid"] != 3 {
		t.Errorf("dropped: %v", n.engine.Stats().Dropped)
	}
}

// A twin that is passivated all the time loses no call and no state.
func TestNothingLostUnderPassivation(t *testing.T) {
	n := newNode(t, func(o *actors.Options) {
		o.IdleTimeout = 30 * time.Millisecond
		o.CheckpointMin = 10 * time.Millisecond
	})
	n.driver("probe", "1.0.0", "")
	const twins, calls = 8, 40
	for i := range twins {
		n.twin(fmt.Sprintf(`{"id":"t%d","driver":"probe"}`, i))
	}
	var wg sync.WaitGroup
	for i := range twins {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for c := range calls {
				if _, err := n.invoke(fmt.Sprintf("t%d", i), "count", ""); err != nil {
					t.Errorf("count %d of t%d: %v", c, i, err)
				}
				if c%4 == 0 {
					time.Sleep(time.Duration(20+3*c) * time.Millisecond) // the subject here is idle time
				}
			}
		}()
	}
	wg.Wait()
	until(t, "all twins passivated", func() bool { return n.engine.Stats().Active == 0 })
	for i := range twins {
		id := fmt.Sprintf("t%d", i)
		if got := n.prop(id, "count"); got != fmt.Sprint(calls) {
			t.Errorf("%s counted %s, want %d", id, got, calls)
		}
		if got := n.must(id, "count", ""); got != fmt.Sprint(calls+1) {
			t.Errorf("%s remembers %s, want %d", id, got, calls+1)
		}
	}
	if n.prop("t0", "loads") == "1" {
		t.Error("t0 was never passivated")
	}
}

func TestOrderPerTwin(t *testing.T) {
	n, g, blocked := busy(t)
	var want strings.Builder
	all := []chan error{blocked}
	for letter := 'a'; letter <= 'z'; letter++ {
		want.WriteRune(letter)
		all = append(all, n.start(n.note(string(letter), nil)))
	}
	close(g.open)
	for _, done := range all {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if got := n.prop("a", "order"); got != `"`+want.String()+`"` {
		t.Errorf("order %s, want %s", got, want.String())
	}
}

// After a restart the twin is back with its last acknowledged state before its device has spoken.
func TestRestart(t *testing.T) {
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	n.driver("probe", "1.0.0", "")
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"probe"}`)
	n.twin(`{"id":"m","driver":"bus","settings":{"topic":"m"}}`)
	if _, err := n.client.SetDesired(ctx(t), &pb.SetDesiredRequest{Id: "a", Property: "level", Value: value(t, "42")}, "me"); err != nil {
		t.Fatal(err)
	}
	n.deliver("dev/m/state", `{"level":17,"on":true}`, 1)
	n.close()

	n = open(t, fs, 2)
	d := n.state("a").Desired["level"]
	if d == nil || text(d.Value) != "42" || d.By != "me" {
		t.Errorf("desired after restart: %v", d)
	}
	s := n.state("m")
	if p := s.Properties["level"]; p == nil || text(p.Value) != "17" || p.Quality != pb.Quality_QUALITY_STALE {
		t.Errorf("level after restart: %v, want 17, stale", p)
	}
	if s.Status.Connection != pb.Connection_CONNECTION_CONNECTING {
		t.Errorf("connection after restart: %v", s.Status.Connection)
	}
	n.deliver("dev/m/state", `{"level":18}`, 1)
	if p := n.state("m").Properties["on"]; p.Quality != pb.Quality_QUALITY_GOOD {
		t.Errorf("once the device spoke, on is %v", p.Quality)
	}
}
