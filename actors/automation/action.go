package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// outcome of one try of an action.
type outcome struct {
	err error
	// stop: what follows is left out.
	stop bool
	Verdict
}

// headerBy names in a topic's message on whose behalf it was published: a rule, and those that led to it.
const headerBy = "pollux-by"

// maxTargets bounds the twins of one action.
const maxTargets = 1000

// act tries an action. number is its step's. It changes what the step says of several targets. A new kind of action has a method here, one in describe, one in checkAction.
func (r *runner) act(ctx context.Context, l leaf, number int) outcome {
	switch x := l.action.Do.(type) {
	case *pb.Action_Call:
		return r.call(ctx, x.Call, l.step, number)
	case *pb.Action_Set:
		return r.set(ctx, x.Set, l.step)
	case *pb.Action_Publish:
		return r.publish(ctx, x.Publish, number)
	case *pb.Action_Mqtt:
		return r.mqtt(x.Mqtt)
	case *pb.Action_Raise:
		return r.raise(ctx, x.Raise, number)
	case *pb.Action_Clear:
		return r.clear(ctx, x.Clear)
	case *pb.Action_Logic:
		return r.runLogic(ctx, x.Logic)
	case *pb.Action_Notify:
		return r.verdict(r.u.h.o.World.Notify(ctx, r.notification(x.Notify, number)))
	}
	return outcome{err: errors.New("this node does not know such an action: it is older than the cluster")}
}

func (r *runner) call(ctx context.Context, x *pb.CallAction, s *pb.Step, number int) outcome {
	h, input := r.u.h, x.Input
	if x.InputExpr != "" {
		v, err := h.programs.value(x.InputExpr, r.scope)
		if err != nil {
			return outcome{err: fmt.Errorf("input: %w", err)}
		}
		input = v.Proto()
	}
	return r.each(ctx, x.To, s, func(id string) error {
		key := r.key(number, id)
		if n := s.Refused[id]; n > 0 {
			// It was not done; by the same key the twin would only say so again.
			key = shortKey(fmt.Sprintf("%s~%d", key, n))
		}
		return h.o.World.Invoke(ctx, &pb.InvokeRequest{Id: id, Action: x.Action, Input: input, IdempotencyKey: key,
			Options: &pb.CommandOptions{Timeout: x.Timeout, Priority: r.prior(x.Priority)}}, r.by())
	})
}

func (r *runner) set(ctx context.Context, x *pb.SetAction, s *pb.Step) outcome {
	h, v := r.u.h, x.Value
	if x.Expr != "" {
		got, err := h.programs.value(x.Expr, r.scope)
		if err != nil {
			return outcome{err: fmt.Errorf("value: %w", err)}
		}
		v = got.Proto()
	}
	return r.each(ctx, x.To, s, func(id string) error {
		return h.o.World.SetDesired(ctx, &pb.SetDesiredRequest{Id: id, Property: x.Property, Value: v,
			Options: &pb.CommandOptions{Priority: r.prior(x.Priority)}}, r.by())
	})
}

func (r *runner) publish(ctx context.Context, x *pb.PublishAction, number int) outcome {
	h := r.u.h
	payload, err := r.payload(x.Payload, x.Expr)
	if err != nil {
		return outcome{err: err}
	}
	return r.verdict(h.o.World.Publish(ctx, &pb.PublishRequest{Topic: inProject(r.scope.project, x.Topic), Messages: []*pb.TopicMessage{{
		Key: h.programs.text(x.Key, r.scope), Payload: payload, ContentType: "application/json", Id: r.key(number, ""),
		Time: r.run.Time, Headers: map[string]string{headerBy: r.by()}}}}))
}

func (r *runner) mqtt(x *pb.MqttAction) outcome {
	p := r.u.h.programs
	return r.verdict(r.u.h.o.World.MQTT(r.scope.project, p.text(x.Topic, r.scope), []byte(p.text(x.Payload, r.scope)), byte(x.Qos), x.Retain))
}

func (r *runner) raise(ctx context.Context, x *pb.RaiseAction, number int) outcome {
	text := r.u.h.programs.text(x.Text, r.scope)
	if text == "" {
		text = r.run.Cause
	}
	_, err := r.u.h.RaiseAlarm(ctx, Raise{ID: r.alarmOf(x.Alarm), Text: text, Twin: r.alarmed(), By: r.u.address, Key: r.key(number, ""),
		Severity: x.Severity, Escalate: x.Escalate})
	return r.verdict(err)
}

func (r *runner) clear(ctx context.Context, x *pb.ClearAction) outcome {
	if _, err := r.u.h.ClearAlarm(ctx, r.alarmOf(x.Alarm), r.u.address, ""); err != nil && !errors.Is(err, ErrNotFound) {
		return r.verdict(err)
	}
	return outcome{}
}

// key is by what a target knows that a step was done before.
func (r *runner) key(step int, target string) string {
	key := fmt.Sprintf("%s#%d.%d", r.u.address, r.run.Number, step)
	if r.born > 0 {
		key = fmt.Sprintf("%s~%d#%d.%d", r.u.address, r.born, r.run.Number, step)
	}
	if target != "" {
		key += "@" + target
	}
	return shortKey(key)
}

// shortKey has a key fit. Names are up to 128 bytes each: the end tells the step and the twin.
func shortKey(key string) string {
	if len(key) <= 128 {
		return key
	}
	return fmt.Sprintf("%016x", hash64(key)) + key[len(key)-112:]
}

// by is on whose behalf the run acts: this rule, and those that led to it.
func (r *runner) by() string {
	return strings.Join(append([]string{r.u.address}, r.run.Chain...), " < ")
}

func (r *runner) prior(own uint32) uint32 {
	if own > 0 {
		return own
	}
	return r.priority
}

func (r *runner) payload(v *structpb.Value, source string) ([]byte, error) {
	if source != "" {
		got, err := r.u.h.programs.value(source, r.scope)
		if err != nil {
			return nil, fmt.Errorf("payload: %w", err)
		}
		return got.AppendJSON(nil), nil
	}
	if v != nil {
		got, err := state.FromProto(v)
		return got.AppendJSON(nil), err
	}
	m := map[string]any{"by": r.u.address, "run": r.run.Number, "cause": r.run.Cause, "time": r.run.Time.AsTime().UTC().Format(time.RFC3339Nano)}
	if r.run.Subject != "" {
		m["twin"], m["name"], m["value"] = r.run.Subject, r.scope.change.Name, r.scope.change.Value.Any()
	}
	return json.Marshal(m)
}

// each does something to all targets that do not have it yet, one after the other. It has failed where it failed for one.
func (r *runner) each(ctx context.Context, to *pb.Targets, s *pb.Step, do func(id string) error) outcome {
	ids, err := r.u.h.o.World.Targets(r.scope.project, to, r.scope.subject)
	if err != nil {
		return outcome{err: err}
	}
	if len(ids) == 0 {
		return outcome{err: errors.New("no twin is meant by it")}
	}
	if len(ids) > maxTargets {
		return outcome{err: fmt.Errorf("%d twins are meant by it, %d are the most", len(ids), maxTargets)}
	}
	var worst outcome
	failed := 0
	for _, id := range ids {
		if ctx.Err() != nil {
			return outcome{err: ctx.Err(), Verdict: worst.or(Verdict{Busy: true})}
		}
		if slices.Contains(s.Reached, id) {
			continue
		}
		res := r.verdict(do(id))
		if res.err == nil {
			if len(ids) > 1 {
				s.Reached = append(s.Reached, id)
			}
			continue
		}
		if failed++; failed == 1 || res.Unknown {
			worst.err = fmt.Errorf("%s: %w", id, res.err)
		}
		worst.Verdict = worst.or(res.Verdict)
		if res.Refused || res.Silent {
			if s.Refused == nil {
				s.Refused = map[string]uint32{}
			}
			s.Refused[id]++
		}
	}
	if failed > 1 {
		worst.err = fmt.Errorf("%d of %d twins: %w", failed, len(ids), worst.err)
	}
	return worst
}

func (r *runner) verdict(err error) outcome {
	if err == nil {
		return outcome{}
	}
	return outcome{err: err, Verdict: r.u.h.o.World.Verdict(err)}
}

func inProject(project, id string) string {
	if strings.Contains(id, "/") {
		return id
	}
	return project + "/" + id
}

func hash64(s string) (h uint64) {
	h = 14695981039346656037
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

func stampOf(ms int64) *timestamppb.Timestamp {
	if ms == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMilli(ms))
}
