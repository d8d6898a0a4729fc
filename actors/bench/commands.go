package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/script"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// over says whether the call was answered.
func (c *openCall) over() bool {
	if c.answered.Load() {
		return true
	}
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func options(c *script.Command) *pb.CommandOptions {
	o := &pb.CommandOptions{Priority: uint32(c.Priority), Name: c.Name}
	if c.Timeout > 0 {
		o.Timeout = durationpb.New(c.Timeout)
	}
	if c.Delay > 0 {
		o.Delay = durationpb.New(c.Delay)
	}
	if c.Retries != nil {
		n := uint32(*c.Retries)
		o.Retries = &n
	}
	return o
}

// call begins a command. Where the step says how it ends, it has to end by itself.
func (r *rig) call(ctx context.Context, s *script.Step) *Failure {
	req := &pb.InvokeRequest{Id: r.id, Action: s.Text, Options: options(&s.Command)}
	if s.Has {
		input, err := structpb.NewValue(script.Plain(s.Input))
		if err != nil {
			return failed(err)
		}
		req.Input = input
	}
	r.note("call " + s.Text + " " + script.JSON(s.Input))
	c := &openCall{step: s, done: make(chan struct{})}
	came := r.listen(c)
	go func() {
		defer close(c.done)
		c.res, c.err = r.node.engine.Client().Invoke(ctx, req, caller)
	}()
	select {
	case <-came:
	case <-c.done:
	}
	if s.Outcome == nil {
		r.calls = append(r.calls, c)
		return failed(r.rest())
	}
	return r.conclude(s, c)
}

// result looks at how the oldest call ended whose result was not looked at.
func (r *rig) result(s *script.Step) *Failure {
	i := slices.IndexFunc(r.calls, func(c *openCall) bool { return s.Text == "" || c.step.Text == s.Text })
	if i < 0 {
		return &Failure{Text: strings.TrimSpace("there is no call " + s.Text + " without a result")}
	}
	c := r.calls[i]
	r.calls = slices.Delete(r.calls, i, i+1)
	return r.conclude(s, c)
}

// conclude waits for the end of a call and compares.
func (r *rig) conclude(s *script.Step, c *openCall) *Failure {
	if f := r.waits(s, func() (bool, error) { return c.over(), nil }); f != nil {
		return f
	}
	if !c.over() {
		return &Failure{Text: "the call has not ended" + within(s) + "; where the device has to answer first, put those steps between call and result",
			Expected: s.Outcome.String()}
	}
	<-c.done
	return compare(s.Outcome, c.res, c.err)
}

// outcomes are the names of how commands end.
var outcomes = map[pb.Outcome]string{pb.Outcome_OUTCOME_DONE: "done", pb.Outcome_OUTCOME_REJECTED: "rejected", pb.Outcome_OUTCOME_TIMED_OUT: "timed_out",
	pb.Outcome_OUTCOME_UNKNOWN: "unknown", pb.Outcome_OUTCOME_QUEUED: "queued"}

func compare(want *script.Outcome, res *pb.InvokeResponse, err error) *Failure {
	got := script.Outcome{Name: "refused"}
	var refused *actors.CommandError
	switch {
	case err == nil:
		got = script.Outcome{Name: outcomes[res.Outcome], Output: res.Output.AsInterface(), HasOutput: true}
	case errors.As(err, &refused):
		got = script.Outcome{Name: outcomes[refused.Outcome], Code: int(refused.Code), Message: refused.Message}
	default:
		got.Message = err.Error()
	}
	f := &Failure{Text: "the call ended otherwise", Expected: want.String(), Got: got.String()}
	switch {
	case want.Name != "" && want.Name != got.Name, want.Name == "" && err == nil,
		want.Code != 0 && want.Code != got.Code, !contains(got.Message, want.Message):
		return f
	case want.HasOutput && !script.Equal(want.Output, got.Output):
		f.Diff = script.Diff(want.Output, got.Output, false)
		return f
	}
	return nil
}

func contains(text, part string) bool { return strings.Contains(text, part) }

// set asks for values of properties, in the order of their names.
func (r *rig) set(ctx context.Context, s *script.Step) *Failure {
	for _, p := range slices.Sorted(maps.Keys(s.Values)) {
		v, err := structpb.NewValue(script.Plain(s.Values[p]))
		if err != nil {
			return failed(err)
		}
		r.note("set " + p + " " + script.JSON(s.Values[p]))
		_, err = r.node.engine.Client().SetDesired(ctx, &pb.SetDesiredRequest{Id: r.id, Property: p, Value: v, Options: options(&s.Command)}, caller)
		switch want := s.Outcome; {
		case err != nil && want == nil:
			return &Failure{Text: "the value was not taken", Got: err.Error()}
		case err == nil && want != nil:
			return &Failure{Text: "the value was taken", Expected: want.String()}
		case err != nil && !contains(err.Error(), want.Message):
			return &Failure{Text: "the value was refused otherwise", Expected: want.String(), Got: err.Error()}
		}
	}
	return failed(r.rest())
}

// settings changes the twin's settings: null removes one.
func (r *rig) settings(ctx context.Context, s *script.Step) *Failure {
	reg := r.node.engine.Registry()
	twin, err := reg.GetTwin(r.id)
	if err != nil {
		return failed(err)
	}
	values := twin.Settings.AsMap()
	for k, v := range s.Values {
		if v == nil {
			delete(values, k)
		} else {
			values[k] = script.Plain(v)
		}
	}
	if twin.Settings, err = structpb.NewStruct(values); err != nil {
		return failed(err)
	}
	r.note("settings " + script.JSON(s.Values))
	if _, err := reg.UpdateTwin(ctx, twin); err != nil {
		return &Failure{Text: "the settings were not taken", Got: err.Error()}
	}
	if _, err := r.node.engine.Client().State(ctx, r.id, false); err != nil {
		return failed(err)
	}
	return failed(r.rest())
}

// report has another twin report values.
func (r *rig) report(ctx context.Context, s *script.Step) *Failure {
	if _, ok := r.test.Twins[s.Twin]; !ok {
		return &Failure{Text: fmt.Sprintf("the script has no twin %q under twins", s.Twin)}
	}
	v, err := structpb.NewValue(script.Plain(s.Values))
	if err != nil {
		return failed(err)
	}
	r.note("twin " + s.Twin + " reports " + script.JSON(s.Values))
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := r.node.engine.Client().Invoke(ctx, &pb.InvokeRequest{Id: r.project + "/" + s.Twin, Action: reportAction, Input: v}, "report"); err != nil {
		return failed(err)
	}
	return failed(r.rest())
}
