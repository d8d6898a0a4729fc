package actors

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// tryEvents are the events that a logic can be tried with, by name.
var tryEvents = map[string]drivers.Event{"": drivers.EventRun, "run": drivers.EventRun, "load": drivers.EventLoad,
	"subscription": drivers.EventSubscription, "timer": drivers.EventTimer, "webhook": drivers.EventWebhook,
	"command": drivers.EventCommand}

// maxTryWait bounds what a try waits for.
const maxTryWait = 10 * time.Second

// trial is the host of a try: it notes what the logic does, and does none of it. Looks at other twins are answered.
type trial struct {
	drivers.Denied
	e       *Engine
	project string
	system  string
	out     *pb.TryLogicResponse
	ctx     callContext
}

func (h *trial) deed(format string, args ...any) {
	h.out.Deeds = append(h.out.Deeds, fmt.Sprintf(format, args...))
}

// Call implements drivers.Host.
func (h *trial) Call(_ context.Context, req drivers.TwinCall) (drivers.TwinAnswer, error) {
	if req.Notify != nil {
		h.deed("notify %s %s", within(h.project, req.Twin), clip(string(req.Notify), 500))
		return drivers.TwinAnswer{}, nil
	}
	id, err := calledTwin(h.e.store, h.project, h.system, req)
	switch {
	case err != nil:
		return answerOf(nil, err), nil
	case req.Get:
		return h.look(id), nil
	case req.Property != "":
		h.deed("set %s %s = %s", id, req.Property, req.Value)
	default:
		h.deed("call %s %s(%s)", id, req.Action, req.Input)
	}
	return drivers.TwinAnswer{}, nil
}

// look answers with what is committed.
func (h *trial) look(id string) drivers.TwinAnswer {
	t, err := h.e.readTwin(id)
	if err == nil && t == nil {
		err = fmt.Errorf("twin %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return answerOf(nil, err)
	}
	st, since := h.e.stored(id)
	return drivers.TwinAnswer{Output: stateAnswer(st.Proto("", since))}
}

// HTTP implements drivers.Host.
func (h *trial) HTTP(_ context.Context, r drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	h.deed("%s %s %s", r.Method, r.URL, clip(string(r.Body), 500))
	return drivers.HTTPResponse{Status: 204}, nil
}

// Log implements drivers.Host.
func (h *trial) Log(level, text string) {
	h.out.Logs = append(h.out.Logs, &pb.LogLine{Time: state.Timestamp(h.e.stamp()), Level: level, Text: clip(text, 1024)})
}

// TryLogic gives an event to a logic, run or that of the request, and tells what it would do. Where a logic is named, it has that one's
// settings but for its secrets, its system, and what that one remembers. It blocks until ctx ends at most.
func (r *Registry) TryLogic(ctx context.Context, run drivers.Runner, req *pb.TryLogicRequest) (*pb.TryLogicResponse, error) {
	kind, ok := tryEvents[req.Event]
	if !ok {
		return nil, invalid("/event", "%q is none of run, load, subscription, timer, webhook, command", req.Event)
	}
	h := &trial{e: r.e, project: req.Project, out: &pb.TryLogicResponse{}}
	if h.project == "" {
		h.project = defaultProject
	}
	settings, err := protojson.Marshal(orEmpty(req.Settings))
	if err != nil {
		return nil, invalid("/settings", "%v", err)
	}
	seen := trySeen(kind, req)
	if req.Id != "" {
		x, cfg, s, err := r.logicOf(h.project, req.Id)
		if err != nil {
			return nil, err
		}
		if run == nil {
			own, err := r.runner(ctx, s.digest)
			if err != nil {
				return nil, err
			}
			defer r.e.runners.release(own)
			run = own.Runner
		}
		h.system = cfg.system
		if req.Settings == nil {
			settings = withoutSecrets(s.model, cfg.settings)
		}
		if req.Memory == nil && req.Properties == nil {
			seen = r.seenBy(kind, x, req)
		}
	}
	if run == nil {
		return nil, invalid("/id", "neither a file nor a logic is given")
	}
	m := run.Manifest()
	if m.Kind != drivers.KindLogic {
		return nil, invalid("/file", "%s is no logic, but a driver: its tests try it", m.Name)
	}
	h.out.Name, h.out.Version = m.Name, m.Version
	if x, ok := run.(drivers.Modeler); ok {
		if settings, err = x.Model().ValidateSettings(settings); err != nil {
			return nil, asInvalid("/settings", err)
		}
	}
	input, of, err := tryInput(kind, req, r.e.stamp())
	if err != nil {
		return nil, err
	}
	h.ctx.begin(r.e, maxTryWait)
	eff, err := run.Handle(&h.ctx, drivers.Call{Event: kind, Tenant: h.project, Input: input, Settings: settings,
		State: func() []byte { return seen }, Clock: &h.ctx}, h)
	if err != nil {
		h.out.Error = strings.TrimPrefix(err.Error(), "driver "+m.Name+": ")
		return h.out, nil
	}
	return h.out, h.effects(kind, of, &eff)
}

// logicOf reads a logic by its name in a project.
func (r *Registry) logicOf(project, name string) (*logic, *config, *spec, error) {
	id, err := CanonicalID(within(project, name))
	if err != nil {
		return nil, nil, nil, err
	}
	return r.e.logics.of(id)
}

// seenBy is the state as a logic would see it now.
func (r *Registry) seenBy(kind drivers.Event, x *logic, req *pb.TryLogicRequest) []byte {
	if kind != drivers.EventRun {
		st, _ := r.e.stored(x.id)
		view := st.View()
		return view.AppendJSON(nil)
	}
	c := &cells{e: r.e, logic: x.id, created: x.created}
	return c.json(req.Twin)
}

// withoutSecrets gives settings with "***" in the place of secrets: who tries code does not see them by it.
func withoutSecrets(m *drivers.Model, settings []byte) []byte {
	var all map[string]any
	if json.Unmarshal(settings, &all) != nil {
		return noSettings
	}
	maskSecrets(m, all)
	b, err := json.Marshal(all)
	if err != nil {
		return noSettings
	}
	return b
}

func orEmpty(s *structpb.Struct) *structpb.Struct {
	if s == nil {
		return &structpb.Struct{}
	}
	return s
}

// tryInput is the event's input; of a run also the message.
func tryInput(kind drivers.Event, req *pb.TryLogicRequest, now int64) ([]byte, *judged, error) {
	v, err := state.FromProto(req.Message)
	if err != nil {
		return nil, nil, invalid("/message", "%v", err)
	}
	message := v.AppendJSON(nil)
	if kind != drivers.EventRun {
		if req.Message.GetStructValue() == nil {
			message = noSettings
		}
		return message, nil, nil
	}
	m := &judged{message: message, twin: req.Twin, by: "try", at: now}
	return appendRun(nil, m), m, nil
}

// trySeen is the state as the logic sees it.
func trySeen(kind drivers.Event, req *pb.TryLogicRequest) []byte {
	memory := any(nil)
	if req.Memory != nil {
		memory = req.Memory.AsInterface()
	} else if kind == drivers.EventRun {
		memory = map[string]any{"twin": map[string]any{}, "script": map[string]any{}}
	}
	b, _ := json.Marshal(map[string]any{"memory": memory, "properties": orEmpty(req.Properties).AsMap()})
	return b
}

// effects tells what a call wants changed.
func (h *trial) effects(kind drivers.Event, m *judged, eff *drivers.Effects) error {
	for _, c := range eff.Changes {
		h.deed("report %s = %s", c.Property, c.Value)
	}
	for _, e := range eff.Events {
		h.deed("announce %s %s", e.Name, e.Data)
	}
	for _, t := range eff.Timers {
		h.deed("%s", timerText(&t))
	}
	for _, s := range eff.Subscriptions {
		what := "subscribe to"
		if s.Cancel {
			what = "end the subscription to"
		}
		h.deed("%s", strings.TrimSpace(fmt.Sprintf("%s %s of %s %s", what, s.Property, s.Twin, s.System)))
	}
	value := func(text []byte) *structpb.Value {
		v, err := state.ParseValue(text)
		if err != nil {
			return nil
		}
		return v.Proto()
	}
	if eff.Memory != nil {
		h.out.Memory = value(eff.Memory)
	}
	if kind != drivers.EventRun {
		if eff.Output != nil {
			h.out.Output = value(eff.Output)
		}
		return nil
	}
	if err := m.read(eff); err != nil {
		h.out.Error = err.Error()
		return nil
	}
	if h.out.Verdict = m.verdict; m.verdict != pb.Verdict_VERDICT_STOP {
		h.out.Message = value(m.out)
	}
	return nil
}

func timerText(t *drivers.Timer) string {
	switch {
	case t.Cancel:
		return "cancel the timer " + t.Name
	case t.Cron != "":
		return strings.TrimSpace(fmt.Sprintf("timer %s at %s %s", t.Name, t.Cron, t.Zone))
	case t.Every > 0:
		return fmt.Sprintf("timer %s every %s", t.Name, t.Every)
	case t.At > 0:
		return fmt.Sprintf("timer %s at %s", t.Name, time.UnixMilli(t.At).UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("timer %s after %s", t.Name, t.After)
}
