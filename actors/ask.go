package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// caller is on whose behalf a call is made.
type caller struct {
	principal string
	// chain are the actors whose calls led to this one.
	chain []string
	// parks: it is a driver, whose call rests while it waits.
	parks bool
}

// Call asks another twin of the project. A twin whose call led to this one is not waited for in a circle: that is an error
// at once, and so is a chain that is too long. Of the calls of one driver at a time no more than half of those may wait here
// that may wait at all, so that twins of one driver can call each other.
func (h *host) Call(_ context.Context, req drivers.TwinCall) (drivers.TwinAnswer, error) {
	if err := h.allowed(); err != nil {
		return drivers.TwinAnswer{}, err
	}
	if req.Notify != nil {
		return h.notify(req)
	}
	id, err := h.called(req)
	if err != nil {
		return answerOf(nil, err), nil
	}
	if int(h.spec.asking.Add(1)) > max(1, h.e.o.Waiting/2) {
		h.spec.asking.Add(-1)
		h.e.stats.drop(dropAsking)
		return drivers.TwinAnswer{}, fmt.Errorf("call %s: too many calls of the driver wait: %w", id, drivers.ErrRateLimited)
	}
	defer h.spec.asking.Add(-1)
	ctx, unblock := h.block()
	defer unblock()
	ctx, cancel := h.e.withDeadline(ctx, h.e.now().Add(req.Timeout))
	defer cancel()
	h.wrote.Store(true) // what the other twin did cannot be taken back
	return answerOf(h.ask(ctx, id, req)), nil
}

// notify puts a logic's message into the outbox of a notifier of its project. What becomes of it there is the notifier's.
func (h *host) notify(req drivers.TwinCall) (drivers.TwinAnswer, error) {
	m, err := noticeOf(h.spec, h.en.id, req)
	if err != nil {
		return answerOf(nil, err), nil
	}
	ctx, unblock := h.block()
	defer unblock()
	ctx, cancel := h.e.withDeadline(ctx, h.e.now().Add(req.Timeout))
	defer cancel()
	h.wrote.Store(true) // it cannot be taken back
	_, err = h.e.notifiers.Send(ctx, m)
	return answerOf(nil, err), nil
}

// noticeOf makes the message of a logic. A driver has none: it speaks for a device.
func noticeOf(s *spec, id string, req drivers.TwinCall) (*pb.Notification, error) {
	if s.manifest.Kind != drivers.KindLogic {
		return nil, fmt.Errorf("notify: %s is no logic: %w", s.name, drivers.ErrDenied)
	}
	n := drivers.Notice{}
	if err := json.Unmarshal(req.Notify, &n); err != nil {
		return nil, invalid("/notify", "%v", err)
	}
	to, err := CanonicalID(within(ProjectOf(id), req.Twin))
	switch {
	case err != nil:
		return nil, err
	case ProjectOf(to) != ProjectOf(id):
		return nil, fmt.Errorf("notifier %s is in another project: %w", to, drivers.ErrDenied)
	case n.Subject == "" && n.Body == "":
		return nil, invalid("/notify", "it has neither a subject nor a body")
	case len(n.Subject) > 900 || len(n.Body) > 64<<10 || len(n.To) > 50 || len(n.ID) > 100:
		return nil, invalid("/notify", "it is too long: 900 bytes of subject, 64 KiB of body, 50 to tell, 100 bytes of id")
	}
	m := &pb.Notification{Notifier: to, Subject: n.Subject, Body: n.Body, To: n.To, Urgent: n.Urgent, By: principalOf(id), Twin: id}
	if n.ID != "" {
		m.Id = id + "/" + n.ID // of this logic alone
	}
	return m, nil
}

// called is the id of the twin that a call names. The error is for the driver.
func (h *host) called(req drivers.TwinCall) (string, error) {
	return calledTwin(h.e.store, ProjectOf(h.en.id), h.cfg.system, req)
}

// calledTwin is the id of the twin that a call names, in a project. bound is the system that `.` stands for.
func calledTwin(store *storage.Store, project, bound string, req drivers.TwinCall) (string, error) {
	own := func(name string) (string, error) {
		id, err := CanonicalID(within(project, name))
		if err == nil && ProjectOf(id) != project {
			err = fmt.Errorf("%s is in another project: %w", id, drivers.ErrDenied)
		}
		return id, err
	}
	if req.System == "" {
		return own(req.Twin)
	}
	named, err := systemNamed(req.System, bound)
	if err != nil {
		return "", err
	}
	system, err := own(named)
	if err != nil {
		return "", err
	}
	return memberOf(store, system, req.Twin)
}

// systemNamed gives the system that a driver names: `.` is the one that its twin is bound to.
func systemNamed(name, bound string) (string, error) {
	switch {
	case name != ".":
		return name, nil
	case bound == "":
		return "", fmt.Errorf("the twin is bound to no system: %w", ErrNotFound)
	}
	return bound, nil
}

// ask makes the call, and gives its output.
func (h *host) ask(ctx context.Context, id string, req drivers.TwinCall) (json.RawMessage, error) {
	c := caller{principal: principalOf(h.en.id), chain: h.chain, parks: true}
	switch {
	case req.Get:
		m, err := h.e.client.callFrom(ctx, c, id, &actorv1.StateQuery{})
		if err != nil {
			return nil, err
		}
		return stateAnswer(m.(*pb.TwinState)), nil
	case req.Property != "":
		v, err := state.ParseValue(req.Value)
		if err != nil {
			return nil, invalid("/value", "%v", err)
		}
		_, err = h.e.client.callFrom(ctx, c, id, &pb.SetDesiredRequest{Id: id, Property: req.Property, Value: v.Proto()})
		return nil, err
	}
	in := &pb.InvokeRequest{Id: id, Action: req.Action, Options: &pb.CommandOptions{Timeout: durationpb.New(req.Timeout)}}
	if len(req.Input) > 0 {
		v, err := state.ParseValue(req.Input)
		if err != nil {
			return nil, invalid("/input", "%v", err)
		}
		in.Input = v.Proto()
	}
	m, err := h.e.client.callFrom(ctx, c, id, in)
	if err != nil {
		return nil, err
	}
	r := m.(*actorv1.CommandResult)
	if r.Outcome != pb.Outcome_OUTCOME_DONE {
		return nil, &CommandError{Outcome: r.Outcome, Code: r.Code, Message: r.Message, Retryable: r.Retryable}
	}
	if r.Output == nil {
		return nil, nil
	}
	return json.Marshal(r.Output.AsInterface())
}

// stateAnswer is a twin's state as another one's driver sees it.
func stateAnswer(s *pb.TwinState) json.RawMessage {
	c := s.GetStatus().GetConnection()
	properties := make(map[string]any, len(s.Properties))
	for name, p := range s.Properties {
		properties[name] = p.Value.AsInterface()
	}
	out, err := json.Marshal(map[string]any{"properties": properties,
		"connected": c == pb.Connection_CONNECTION_CONNECTED || c == pb.Connection_CONNECTION_NONE})
	if err != nil {
		return nil // values came from JSON
	}
	return out
}

// answerOf makes an error that another twin's call ended in what the driver sees.
func answerOf(output json.RawMessage, err error) drivers.TwinAnswer {
	if err == nil {
		return drivers.TwinAnswer{Output: output}
	}
	return drivers.TwinAnswer{Error: &drivers.TwinError{Code: callCode(err), Message: err.Error()}}
}

func callCode(err error) string {
	var field *InvalidError
	var command *CommandError
	switch {
	case errors.As(err, &command):
		switch {
		case command.Outcome != pb.Outcome_OUTCOME_REJECTED:
			return drivers.CallTimeout
		case command.Code == 0 && command.Retryable:
			return drivers.CallUnavailable // it is the host that says so: the device is away
		}
		return drivers.CallRefused
	case errors.As(err, &field):
		if (field.Path == "/action" || field.Path == "/property") && !strings.Contains(field.Reason, drivers.ErrReadOnly.Error()) {
			return drivers.CallNotFound
		}
		return drivers.CallInvalid
	case errors.Is(err, cluster.ErrCycle):
		return drivers.CallLoop
	case errors.Is(err, ErrNotFound):
		return drivers.CallNotFound
	case errors.Is(err, drivers.ErrDenied):
		return drivers.CallDenied
	case errors.Is(err, ErrInvalid):
		return drivers.CallInvalid
	case errors.Is(err, cluster.ErrDeadline), errors.Is(err, cluster.ErrUnknown), errors.Is(err, context.DeadlineExceeded):
		return drivers.CallTimeout
	}
	return drivers.CallUnavailable
}
