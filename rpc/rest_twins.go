package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// filter is the part of a query that chooses twins.
func (c *restCall) filter() *pb.TwinFilter {
	f := &pb.TwinFilter{Project: c.text("project"), Driver: c.text("driver"), Zone: c.text("zone"), Faulty: c.boolean("faulty"),
		Text: c.text("text"), Model: c.text("model"), Interface: c.text("interface"), System: c.text("system"), Where: c.text("where")}
	for _, pair := range c.query["label"] {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			c.wrong("label", "want KEY=VALUE")
			continue
		}
		if f.Labels == nil {
			f.Labels = map[string]string{}
		}
		f.Labels[key] = value
	}
	if word := c.text("connection"); word != "" {
		n, ok := pb.Connection_value["CONNECTION_"+strings.ToUpper(word)]
		if !ok || n == 0 {
			c.wrong("connection", "want none, connecting, connected, disconnected, stopped or sleeping")
		}
		f.Connection = pb.Connection(n)
	}
	return f
}

// only the twin of the path. The project is said too: what is authorized is the filter's.
func (c *restCall) only() *pb.TwinFilter {
	return &pb.TwinFilter{Project: c.r.PathValue("project"), Ids: []string{c.id()}}
}

func (c *restCall) listTwins() error {
	t := &twinService{c.s}
	res, err := calls(c, rpcv1.TwinServiceListTwinsProcedure, &pb.ListTwinsRequest{Filter: c.filter(), PageSize: c.number("page_size"),
		PageToken: c.text("page_token"), State: c.boolean("state")}, t.ListTwins)
	if err != nil {
		return err
	}
	c.nextPage(res.NextPageToken)
	return c.message(http.StatusOK, res)
}

// twin reads the twin of the path.
func (c *restCall) twin(model bool) (*pb.Twin, error) {
	m := &pb.GetTwinRequest{Id: c.id(), Model: model}
	switch c.text("consistency") {
	case "", "owner":
	case "local":
		m.Consistency = pb.Consistency_CONSISTENCY_LOCAL
	default:
		c.wrong("consistency", "want owner or local")
	}
	res, err := calls(c, rpcv1.TwinServiceGetTwinProcedure, m, (&twinService{c.s}).GetTwin)
	return res.GetTwin(), err
}

func (c *restCall) getTwin() error {
	twin, err := c.twin(c.boolean("model"))
	if err != nil {
		return err
	}
	return c.message(http.StatusOK, twin)
}

// readable refuses to show the state of a twin that cannot be reached as if it had none.
func readable(t *pb.Twin) error {
	if s := t.State; s.Revision == 0 && len(s.Properties) == 0 && s.GetStatus().GetNode() == "" && s.GetStatus().GetFault() != "" {
		return fmt.Errorf("twin %s: %s: %w", t.Id, s.Status.Fault, actors.ErrFault)
	}
	return nil
}

// detailed is a property with what is known of it.
func detailed(p *pb.Property, d *pb.Desired) (json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	if p != nil {
		text, err := protojson.Marshal(p)
		if err == nil {
			err = json.Unmarshal(text, &out)
		}
		if err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
	}
	if d != nil {
		text, err := protojson.Marshal(d)
		if err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
		out["desired"] = text
	}
	return json.Marshal(out)
}

// shown is what the client gets of some properties, by name: values, or all that is known.
func shown(props map[string]*pb.Property, desired map[string]*pb.Desired, detail bool) (map[string]json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	var err error
	for name, p := range props {
		if detail {
			out[name], err = detailed(p, desired[name])
		} else {
			out[name], err = raw(p.Value)
		}
		if err != nil {
			return nil, err
		}
	}
	for name, d := range desired {
		if detail && props[name] == nil {
			if out[name], err = detailed(nil, d); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (c *restCall) getProperties() error {
	if c.accepts(streamType) {
		return c.observe("")
	}
	detail := c.boolean("detail")
	twin, err := c.twin(false)
	if err == nil {
		err = readable(twin)
	}
	if err != nil {
		return err
	}
	out, err := shown(twin.State.Properties, twin.State.Desired, detail)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, out)
}

func (c *restCall) getProperty() error {
	name := c.r.PathValue("property")
	if c.accepts(streamType) {
		return c.observe(name)
	}
	detail := c.boolean("detail")
	twin, err := c.twin(true)
	if err == nil {
		err = readable(twin)
	}
	if err != nil {
		return err
	}
	p, d := twin.State.Properties[name], twin.State.Desired[name]
	if p == nil && (d == nil || !detail) {
		return noProperty(twin, name)
	}
	if detail {
		out, err := detailed(p, d)
		if err != nil {
			return err
		}
		return c.json(http.StatusOK, out)
	}
	out, err := raw(p.Value)
	if err != nil {
		return err
	}
	c.w.Header().Set("Pollux-Time", p.Time.AsTime().Format(time.RFC3339Nano))
	c.w.Header().Set("Pollux-Quality", wordOf(p.Quality.String(), "QUALITY_"))
	return c.json(http.StatusOK, out)
}

// noProperty says why there is no value: the model has no such property, or nothing was reported yet.
func noProperty(t *pb.Twin, name string) error {
	var model struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal([]byte(t.State.ModelJson), &model); err != nil || model.Properties[name] != nil {
		return fmt.Errorf("twin %s has not reported %q yet: %w", t.Id, name, actors.ErrNotFound)
	}
	return fmt.Errorf("twin %s has no property %q: %w", t.Id, name, actors.ErrNotFound)
}

// options of a command; nil where the query has none.
func (c *restCall) options() *pb.CommandOptions {
	o := &pb.CommandOptions{Priority: c.number("priority"), Name: c.text("queue"), Delay: c.duration("delay"), Timeout: c.duration("timeout"),
		NoWait: c.boolean("no_wait"), ValidFor: c.duration("valid_for"), Pause: c.duration("pause"), NoAnswer: c.boolean("no_answer"),
		Clear: c.boolean("clear")}
	if c.text("retries") != "" {
		n := c.number("retries")
		o.Retries = &n
	}
	given := o.Retries != nil
	for _, name := range []string{"priority", "queue", "delay", "timeout", "no_wait", "valid_for", "pause", "no_answer", "clear"} {
		given = given || c.text(name) != ""
	}
	if !given {
		return nil
	}
	return o
}

func (c *restCall) invoke() error {
	m := &pb.InvokeRequest{Id: c.id(), Action: c.r.PathValue("action"), Options: c.options(), Input: c.value(),
		IdempotencyKey: c.r.Header.Get("Idempotency-Key")}
	res, err := calls(c, rpcv1.TwinServiceInvokeProcedure, m, (&twinService{c.s}).Invoke)
	if err != nil {
		return err
	}
	c.w.Header().Set("Pollux-Outcome", wordOf(res.Outcome.String(), "OUTCOME_"))
	if res.Outcome == pb.Outcome_OUTCOME_QUEUED {
		return c.json(http.StatusAccepted, map[string]string{"outcome": "queued", "commandId": res.CommandId})
	}
	if _, null := res.Output.GetKind().(*structpb.Value_NullValue); res.Output == nil || null {
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	out, err := raw(res.Output)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, out)
}

// maxWait for the confirmation of a desired value.
const maxWait = 10 * time.Minute

func (c *restCall) putProperty() error {
	wait := c.duration("wait")
	if wait.AsDuration() > maxWait {
		c.wrong("wait", "is more than "+maxWait.String())
	}
	m := &pb.SetDesiredRequest{Id: c.id(), Property: c.r.PathValue("property"), ValidFor: c.duration("valid_for")}
	o := pb.CommandOptions{Priority: c.number("priority"), Delay: c.duration("delay"), Timeout: c.duration("timeout"), Name: c.text("queue")}
	if o.Priority != 0 || o.Delay != nil || o.Timeout != nil || o.Name != "" || c.text("retries") != "" {
		m.Options = &o
		if c.text("retries") != "" {
			n := c.number("retries")
			o.Retries = &n
		}
	}
	if m.Value = c.value(); m.Value == nil && c.bad == nil {
		c.bad = invalid("body", "is empty; want the value as JSON")
	}
	res, err := calls(c, rpcv1.TwinServiceSetDesiredProcedure, m, (&twinService{c.s}).SetDesired)
	if err != nil {
		return err
	}
	d := res.Desired
	if wait != nil {
		if d, err = c.settled(m.Id, m.Property, d, wait); err != nil {
			return err
		}
	}
	status := http.StatusAccepted
	if d.Progress == pb.Progress_PROGRESS_CONFIRMED {
		status = http.StatusOK
	}
	return c.message(status, d)
}

var errSettled = errors.New("settled")

// settled waits until the device confirmed what was asked, or will not. When the time is over, or the node stops, it gives how far it got.
func (c *restCall) settled(id, property string, asked *pb.Desired, wait *durationpb.Duration) (*pb.Desired, error) {
	m := &pb.WatchTwinsRequest{Filter: c.only(), Properties: []string{property}}
	if err := c.s.guard.admit(c.ctx, rpcv1.TwinServiceWatchTwinsProcedure, m); err != nil {
		return nil, err
	}
	ctx, stop, err := c.s.o.Keys.Follow(c.ctx, c.p) // a node that stops does not wait for devices
	if err != nil {
		return nil, err
	}
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, wait.AsDuration())
	defer cancel()
	last := asked
	err = c.s.watchTwins(ctx, c.p, m, func(m *actors.Told) error {
		d := m.GetState().GetDesired()[property]
		if m.GetDelta() != nil {
			d = m.GetDelta().Desired[property]
		}
		switch {
		case m.GetDeleted():
			return fmt.Errorf("twin %s was deleted meanwhile: %w", id, actors.ErrNotFound)
		case d == nil || d.Revision < asked.Revision:
			return nil
		case d.Revision > asked.Revision:
			return fmt.Errorf("%s of twin %s was set again meanwhile: %w", property, id, actors.ErrRevision)
		}
		last = d
		switch d.Progress {
		case pb.Progress_PROGRESS_CONFIRMED:
			return errSettled
		case pb.Progress_PROGRESS_REJECTED:
			return &actors.CommandError{Outcome: pb.Outcome_OUTCOME_REJECTED, Message: d.Error}
		case pb.Progress_PROGRESS_EXPIRED:
			return &actors.CommandError{Outcome: pb.Outcome_OUTCOME_TIMED_OUT, Message: d.Error}
		}
		return nil
	})
	if errors.Is(err, errSettled) || ctx.Err() != nil && c.ctx.Err() == nil {
		err = nil
	}
	return last, err
}

func (c *restCall) history() error {
	m := &pb.QueryHistoryRequest{Id: c.id(), Property: c.text("property"), Start: c.moment("start"), End: c.moment("end"),
		Step: c.duration("step"), Aggregate: c.text("aggregate"), Limit: c.number("limit"), Fill: c.text("fill"), Unit: c.text("unit"),
		PageToken: c.text("page_token")}
	res, err := calls(c, rpcv1.TwinServiceQueryHistoryProcedure, m, (&twinService{c.s}).QueryHistory)
	if err != nil {
		return err
	}
	c.nextPage(res.NextPageToken)
	plain, err := plainHistoryOf(res)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, plain)
}

// plainHistory is a history as plain JSON has it: a value of 0 is there, which protobuf's JSON leaves out.
type plainHistory struct {
	Samples       []plainSample `json:"samples"`
	Truncated     bool          `json:"truncated,omitempty"`
	Unit          string        `json:"unit,omitempty"`
	NextPageToken string        `json:"nextPageToken,omitempty"`
}

type plainSample struct {
	Time    string          `json:"time"`
	Value   *float64        `json:"value,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	None    bool            `json:"none,omitempty"`
	Quality string          `json:"quality,omitempty"`
}

func plainHistoryOf(res *pb.QueryHistoryResponse) (*plainHistory, error) {
	out := &plainHistory{Samples: make([]plainSample, len(res.Samples)), Truncated: res.Truncated, Unit: res.Unit, NextPageToken: res.NextPageToken}
	for i, s := range res.Samples {
		x := &out.Samples[i]
		x.Time, x.None = s.Time.AsTime().Format(time.RFC3339Nano), s.None
		switch {
		case s.Data != nil:
			text, err := protojson.Marshal(s.Data)
			if err != nil {
				return nil, fmt.Errorf("encode: %w", err)
			}
			x.Data = text
		case !s.None && !math.IsInf(s.Value, 0) && !math.IsNaN(s.Value): // JSON has no word for these
			x.Value = &s.Value
		}
		if s.Quality != pb.Quality_QUALITY_UNSPECIFIED {
			x.Quality = s.Quality.String()
		}
	}
	return out, nil
}
