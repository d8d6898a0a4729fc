package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	// again: the same may succeed in a moment. unknown: it may have been done.
	again, unknown bool
}

// maxTargets bounds the twins of one action.
const maxTargets = 1000

// describe says an action in a few words. A run knows its actions by them.
func describe(a *pb.Action) string {
	switch x := a.Do.(type) {
	case *pb.Action_Call:
		return "call " + x.Call.Action + targetText(x.Call.To)
	case *pb.Action_Set:
		what := x.Set.Expr
		if what == "" {
			what = valueText(x.Set.Value)
		}
		return "set " + x.Set.Property + " = " + what + targetText(x.Set.To)
	case *pb.Action_Publish:
		return "publish to " + x.Publish.Topic
	case *pb.Action_Mqtt:
		return "mqtt " + x.Mqtt.Topic
	case *pb.Action_Raise:
		return strings.TrimSpace("raise " + x.Raise.Alarm + " " + severityWord(x.Raise.Severity))
	case *pb.Action_Clear:
		return strings.TrimSpace("clear " + x.Clear.Alarm)
	case *pb.Action_Wait:
		return "wait " + x.Wait.AsDuration().String()
	case *pb.Action_Stop:
		return "stop"
	}
	return "nothing"
}

func targetText(t *pb.Targets) string {
	var all []string
	add := func(what, name string) {
		if name != "" {
			all = append(all, strings.TrimSpace(what+" "+name))
		}
	}
	add("", t.GetTwin())
	switch {
	case t.GetSystem() != "" && t.GetName() != "":
		add("", t.Name+" of "+t.System)
	default:
		add("all of", t.GetSystem())
	}
	add("zone", t.GetZone())
	add("interface", t.GetInterface())
	add("model", t.GetModel())
	if len(t.GetLabels()) > 0 {
		add("labels", jsonOf(t.Labels))
	}
	if len(all) == 0 {
		return ""
	}
	return " on " + strings.Join(all, ", ")
}

func valueText(v *structpb.Value) string {
	x, err := state.FromProto(v)
	if err != nil {
		return "null"
	}
	return string(x.AppendJSON(nil))
}

// act tries an action. number is its step's.
func (r *runner) act(ctx context.Context, a *pb.Action, number int) outcome {
	h, project := r.u.h, r.scope.project
	switch x := a.Do.(type) {
	case *pb.Action_Call:
		input := x.Call.Input
		if x.Call.InputExpr != "" {
			v, err := h.programs.value(x.Call.InputExpr, r.scope)
			if err != nil {
				return outcome{err: fmt.Errorf("input: %w", err)}
			}
			input = v.Proto()
		}
		return r.each(ctx, x.Call.To, func(id string) error {
			return h.o.World.Invoke(ctx, &pb.InvokeRequest{Id: id, Action: x.Call.Action, Input: input, IdempotencyKey: r.key(number, id),
				Options: &pb.CommandOptions{Timeout: x.Call.Timeout, Priority: r.prior(x.Call.Priority)}}, r.by())
		})
	case *pb.Action_Set:
		v := x.Set.Value
		if x.Set.Expr != "" {
			got, err := h.programs.value(x.Set.Expr, r.scope)
			if err != nil {
				return outcome{err: fmt.Errorf("value: %w", err)}
			}
			v = got.Proto()
		}
		return r.each(ctx, x.Set.To, func(id string) error {
			return h.o.World.SetDesired(ctx, &pb.SetDesiredRequest{Id: id, Property: x.Set.Property, Value: v,
				Options: &pb.CommandOptions{Priority: r.prior(x.Set.Priority)}}, r.by())
		})
	case *pb.Action_Publish:
		payload, err := r.payload(x.Publish.Payload, x.Publish.Expr)
		if err != nil {
			return outcome{err: err}
		}
		return r.verdict(h.o.World.Publish(ctx, &pb.PublishRequest{Topic: inProject(project, x.Publish.Topic), Messages: []*pb.TopicMessage{{
			Key: h.programs.text(x.Publish.Key, r.scope), Payload: payload, ContentType: "application/json", Id: r.key(number, ""),
			Time: r.run.Time, Headers: map[string]string{"pollux-by": r.u.address}}}}))
	case *pb.Action_Mqtt:
		return r.verdict(h.o.World.MQTT(h.programs.text(x.Mqtt.Topic, r.scope), []byte(h.programs.text(x.Mqtt.Payload, r.scope)), byte(x.Mqtt.Qos), x.Mqtt.Retain))
	case *pb.Action_Raise:
		text := h.programs.text(x.Raise.Text, r.scope)
		if text == "" {
			text = r.run.Cause
		}
		_, err := h.RaiseAlarm(ctx, Raise{ID: r.alarmOf(x.Raise.Alarm), Text: text, Twin: r.scope.subject, By: r.u.address, Key: r.key(number, ""),
			Severity: x.Raise.Severity, Escalate: x.Raise.Escalate})
		return r.verdict(err)
	case *pb.Action_Clear:
		if _, err := h.ClearAlarm(ctx, r.alarmOf(x.Clear.Alarm), r.u.address, ""); err != nil && !errors.Is(err, ErrNotFound) {
			return r.verdict(err)
		}
		return outcome{}
	}
	return outcome{err: errors.New("this node does not know such an action: it is older than the cluster")}
}

// key is by what a target knows that a step was done before.
func (r *runner) key(step int, target string) string {
	key := fmt.Sprintf("%s#%d.%d", r.u.address, r.run.Number, step)
	if target != "" {
		key += "@" + target
	}
	if len(key) > 128 {
		// Names are up to 128 bytes each: the end tells the step and the twin.
		key = fmt.Sprintf("%016x", hash64(key)) + key[len(key)-112:]
	}
	return key
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

// each does something to all targets, one after the other. It has failed where it failed for one.
func (r *runner) each(ctx context.Context, to *pb.Targets, do func(id string) error) outcome {
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
			return outcome{err: ctx.Err(), again: true}
		}
		if res := r.verdict(do(id)); res.err != nil {
			if failed++; failed == 1 || res.unknown {
				worst = outcome{fmt.Errorf("%s: %w", id, res.err), res.again, res.unknown}
			}
			worst.again = worst.again || res.again
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
	again, unknown := r.u.h.o.World.Verdict(err)
	return outcome{err, again, unknown}
}

// scopeOf is what the expressions of a run may read: what it was decided by, and all else as it is now.
func (u *unit) scopeOf(run *pb.Run) (*scope, error) {
	project, name, _ := strings.Cut(u.id, "/")
	s := &scope{world: u.h.o.World, project: project, name: name, subject: run.Subject, now: u.h.o.Now(), due: run.Time.AsTime()}
	if run.Due != nil {
		s.due = run.Due.AsTime()
	}
	if run.Subject != "" {
		if v, ok := u.h.o.World.View(run.Subject); ok {
			s.twin = v
		}
	}
	var err error
	text := func(name string, to *string) {
		if v := run.Values[name]; v != "" && err == nil {
			err = json.Unmarshal([]byte(v), to)
		}
	}
	text("kind", &s.change.Kind)
	text("name", &s.change.Name)
	for name, to := range map[string]*state.Value{"value": &s.change.Value, "previous": &s.change.Previous} {
		if v := run.Values[name]; v != "" && err == nil {
			*to, err = state.ParseValue([]byte(v))
		}
	}
	s.change.Time = run.Time.AsTime().UnixMilli()
	if err != nil {
		return nil, fmt.Errorf("values of run %d of %s: %w", run.Number, u.address, err)
	}
	return s, nil
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
