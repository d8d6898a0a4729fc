package bench

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/polluxhq/pollux/drivers/script"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// play runs the steps up to the first that fails.
func (r *rig) play(ctx context.Context) *Failure {
	return r.guard(func() *Failure { return r.steps(ctx) })
}

// guard makes a panic of the runner a failure of the test.
func (r *rig) guard(fn func() *Failure) (f *Failure) {
	defer func() {
		if p := recover(); p != nil {
			f = &Failure{Line: r.line, Text: fmt.Sprintf("the test runner failed: %v\n%s", p, debug.Stack())}
		}
	}()
	return fn()
}

func (r *rig) steps(ctx context.Context) *Failure {
	r.stopped = ctx.Err
	steps := append(append([]script.Step(nil), r.file.Before...), r.test.Steps...)
	for i := range steps {
		s := &steps[i]
		r.line = s.Line
		if f := r.step(ctx, s); f != nil {
			f.Line = s.Line
			f.Step = s.String()
			return f
		}
		r.played++
	}
	return r.finish()
}

// finish looks at what is left at the end of a test.
func (r *rig) finish() *Failure {
	if err := r.rest(); err != nil {
		return &Failure{Line: r.line, Text: err.Error()}
	}
	for _, c := range r.calls {
		if !c.over() {
			return &Failure{Line: c.step.Line, Step: c.step.String(), Text: "the test ends and this call has no result yet; add a step result, or have the device answer"}
		}
		<-c.done
		if c.err != nil {
			return &Failure{Line: c.step.Line, Step: c.step.String(), Text: "the call failed, and no step expects it", Got: c.err.Error()}
		}
	}
	return nil
}

// step runs one step.
func (r *rig) step(ctx context.Context, s *script.Step) *Failure {
	if err := r.rest(); err != nil {
		return &Failure{Text: err.Error()}
	}
	switch s.Kind {
	case script.Send, script.Disconnect, script.Connect, script.Refuse, script.Respond:
		return r.device(s)
	case script.Advance, script.At:
		return r.advance(s)
	case script.Expect:
		return r.expect(s)
	case script.Quiet:
		return r.quietFor(s)
	case script.Call:
		return r.call(ctx, s)
	case script.Result:
		return r.result(s)
	case script.Set:
		return r.set(ctx, s)
	case script.Settings:
		return r.settings(ctx, s)
	case script.Event:
		return r.event(s)
	case script.Log:
		return r.log(s)
	case script.HTTP:
		return r.http(s)
	case script.Called:
		return r.called(s)
	case script.Report:
		return r.report(ctx, s)
	case script.Webhook:
		return r.webhook(ctx, s)
	}
	return r.look(ctx, s)
}

func failed(err error) *Failure {
	if err == nil {
		return nil
	}
	return &Failure{Text: err.Error()}
}

// device plays what the device does.
func (r *rig) device(s *script.Step) *Failure {
	switch s.Kind {
	case script.Respond:
		r.rule(s.Rule)
		return nil
	case script.Connect:
		r.peer.connect()
	case script.Disconnect:
		r.peer.disconnect(s.Text)
	case script.Refuse:
		r.peer.refuse(s.Text)
	case script.Send:
		if err := r.peer.say(s.Message); err != nil {
			return failed(err)
		}
	}
	if err := r.rest(); err != nil {
		return failed(err)
	}
	r.peer.mu.Lock()
	err := r.mqttErr
	r.mqttErr = nil
	r.peer.mu.Unlock()
	if err != nil {
		return &Failure{Text: "the message was not taken: " + err.Error()}
	}
	return nil
}

func (r *rig) advance(s *script.Step) *Failure {
	to := s.Time
	if s.Kind == script.Advance {
		to = r.clock.Now().Add(s.Wait)
	} else if to.Before(r.clock.Now()) {
		return &Failure{Text: "the clock is past that already", Got: r.clock.Now().Format(time.RFC3339Nano)}
	}
	return failed(r.pass(to, nil))
}

// waits has time pass until ok, at most as long as the step says.
func (r *rig) waits(s *script.Step, ok func() (bool, error)) *Failure {
	return failed(r.pass(r.clock.Now().Add(s.Wait), ok))
}

// expect takes what the driver sent.
func (r *rig) expect(s *script.Step) *Failure {
	var got *sent
	var fits bool
	if f := r.waits(s, func() (bool, error) {
		got, fits = r.peer.take(&s.Frame)
		return got != nil, nil
	}); f != nil {
		return f
	}
	switch {
	case fits:
		return nil
	case got == nil:
		return &Failure{Text: "the driver did not send this" + within(s), Expected: s.Frame.String(), Got: "nothing"}
	}
	return &Failure{Text: "the driver sent something else", Expected: s.Frame.String(), Got: got.String()}
}

func within(s *script.Step) string {
	if s.Wait > 0 {
		return " within " + s.Wait.String()
	}
	return ""
}

// quietFor has time pass, in which the driver may send only what rules answer.
func (r *rig) quietFor(s *script.Step) *Failure {
	var got *sent
	if f := r.waits(s, func() (bool, error) {
		got = r.peer.unexpected()
		return got != nil, nil
	}); f != nil || got == nil {
		return f
	}
	return &Failure{Text: "the driver sent something", Expected: "nothing for " + s.Wait.String(), Got: got.String()}
}

func (r *rig) event(s *script.Step) *Failure {
	if f := r.waits(s, func() (bool, error) { return len(r.events) > 0, nil }); f != nil {
		return f
	}
	want := s.Text
	if s.Has {
		want += " " + script.JSON(s.Input)
	}
	if len(r.events) == 0 {
		return &Failure{Text: "the driver did not emit this" + within(s), Expected: want, Got: "no event"}
	}
	e := r.events[0]
	r.events = r.events[1:]
	data := e.Data.AsInterface()
	if e.Name != s.Text || s.Has && !script.Equal(s.Input, data) {
		f := &Failure{Text: "the driver emitted something else", Expected: want, Got: e.Name + " " + script.JSON(data)}
		if e.Name == s.Text {
			f.Diff = script.Diff(s.Input, data, false)
		}
		return f
	}
	return nil
}

// log looks for a line that comes after those that earlier steps found.
func (r *rig) log(s *script.Step) *Failure {
	fits := func(l *pb.LogLine) bool {
		return contains(l.Text, s.Text) && (s.Level == "" || s.Level == l.Level)
	}
	found := -1
	if f := r.waits(s, func() (bool, error) {
		for i, l := range r.logs {
			if fits(l) {
				found = i
				return true, nil
			}
		}
		return false, nil
	}); f != nil {
		return f
	}
	if found >= 0 {
		r.logs = r.logs[found+1:]
		return nil
	}
	got := "nothing"
	for i, l := range r.logs {
		if i == 0 {
			got = ""
		}
		got += l.Level + ": " + l.Text + "\n"
	}
	return &Failure{Text: "the log does not say this" + within(s), Expected: s.Level + ": …" + s.Text + "…", Got: got}
}
