package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// Server-sent events, as HTML's living standard has them. Values and events are messages without a name, as EventSource and
// the clients of Thing Descriptions want them; beside them there are:
//
//	event: gap    {"missed":3,"reason":"…"}   changes were dropped, or may be missing
//	event: end    a problem                    the stream is over, and why
//	: heartbeat                                each 10 s
//
// What a slow reader misses is bounded where the watch is; no queue stands here.

// retryAfter in milliseconds is when a browser comes again after it lost the stream.
const retryAfter = 2000

// eventStream writes one stream. It begins with the first message, so that what fails before is answered as a problem.
type eventStream struct {
	c       *restCall
	control *http.ResponseController
	began   bool
}

func (e *eventStream) begin() {
	if e.began {
		return
	}
	e.began = true
	h := e.c.w.Header()
	h.Set("Content-Type", streamType)
	h.Set("X-Accel-Buffering", "no") // or nginx would keep what is to be seen at once
	e.c.w.WriteHeader(http.StatusOK)
	_, _ = fmt.Fprintf(e.c.w, "retry: %d\n\n", retryAfter)
}

// send writes a message; name and id may be empty. The data is one line: JSON that encoding/json has written.
func (e *eventStream) send(name, id string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	var out bytes.Buffer
	if name != "" {
		fmt.Fprintf(&out, "event: %s\n", name)
	}
	if id != "" {
		fmt.Fprintf(&out, "id: %s\n", id)
	}
	fmt.Fprintf(&out, "data: %s\n\n", text)
	return e.write(out.Bytes())
}

func (e *eventStream) write(b []byte) error {
	e.begin()
	if _, err := e.c.w.Write(b); err != nil {
		return &sendError{err}
	}
	if err := e.control.Flush(); err != nil {
		return &sendError{err}
	}
	return nil
}

// gapMark tells that changes are missing.
type gapMark struct {
	// Missed changes, where they were counted.
	Missed uint64 `json:"missed,omitempty"`
	Reason string `json:"reason"`
}

// stream watches one twin for as long as the client stays, and its key is valid. each gets what is about the twin.
func (c *restCall) stream(m *pb.WatchTwinsRequest, each func(*eventStream, *pb.WatchTwinsResponse) error) error {
	m.Filter = c.only()
	g, procedure := c.s.guard, rpcv1.TwinServiceWatchTwinsProcedure
	start := time.Now()
	g.counters.streams.Add(1)
	e := &eventStream{c: c, control: http.NewResponseController(c.w)}
	err := c.streamed(e, m, each)
	g.counters.streams.Add(-1)
	if errors.As(err, new(*sendError)) || c.r.Context().Err() != nil {
		err = nil // the client went
	}
	err = translate(err)
	g.done(c.ctx, procedure, start, err)
	if err == nil || !e.began {
		return err
	}
	status, p := problemOf(err)
	p.Status, p.Title, p.Instance = status, http.StatusText(status), c.r.URL.Path
	_ = e.send("end", "", p)
	return nil
}

func (c *restCall) streamed(e *eventStream, m *pb.WatchTwinsRequest, each func(*eventStream, *pb.WatchTwinsResponse) error) error {
	if c.bad != nil {
		return c.bad
	}
	if err := c.s.guard.admit(c.ctx, rpcv1.TwinServiceWatchTwinsProcedure, m); err != nil {
		return err
	}
	if _, err := c.s.o.Registry.GetTwin(c.id()); err != nil {
		return err
	}
	if c.r.Method == http.MethodHead {
		c.w.Header().Set("Content-Type", streamType)
		return nil
	}
	ctx, stop, err := c.s.o.Keys.Follow(c.ctx, c.p)
	if err != nil {
		return err
	}
	defer stop()
	if c.r.Header.Get("Last-Event-ID") != "" && m.Events {
		if err := e.send("gap", "", gapMark{Reason: "events are not kept for a reader that was away"}); err != nil {
			return err
		}
	}
	heartbeats := 0
	err = c.s.watchTwins(ctx, c.p, m, func(m *actors.Told) error { return c.step(e, m.WatchTwinsResponse, &heartbeats, each) })
	if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
		err = cause
	}
	return err
}

// step passes on one message of the watch.
func (c *restCall) step(e *eventStream, m *pb.WatchTwinsResponse, heartbeats *int, each func(*eventStream, *pb.WatchTwinsResponse) error) error {
	if m.Missed > 0 || m.Gap != "" {
		mark := gapMark{Missed: m.Missed, Reason: m.Gap}
		if mark.Reason == "" {
			mark.Reason = "the reader was too slow"
		}
		if err := e.send("gap", "", mark); err != nil {
			return err
		}
	}
	switch {
	case m.GetHeartbeat():
		// The first says that this node watches; whoever is told that the stream is open may rely on the twin's own node.
		if *heartbeats++; *heartbeats > 1 || e.began {
			return e.write([]byte(": heartbeat\n\n"))
		}
		return nil
	case m.GetDeleted():
		return fmt.Errorf("twin %s was deleted: %w", m.Id, actors.ErrNotFound)
	case m.GetState() != nil && !e.began:
		if err := e.write(nil); err != nil {
			return err
		}
	}
	return each(e, m)
}

// position names a property's value for Last-Event-ID: who comes back and names the present one has missed nothing. It is the value's time and a
// hash of the value, since several values may have one time.
func position(p *pb.Property) (string, error) {
	if p == nil || p.Time == nil {
		return "", nil
	}
	value, err := raw(p.Value)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(value) // without spaces, of which protobuf has now more and now less
	if err != nil {
		return "", fmt.Errorf("encode: %w", err)
	}
	return strconv.FormatInt(p.Time.AsTime().UnixMilli(), 36) + "-" + strconv.FormatUint(xxhash.Sum64(text)>>32, 36), nil
}

// observe streams the first value and the changes of a property, or, where name is empty, of all of them.
func (c *restCall) observe(name string) error {
	detail := c.boolean("detail")
	m := &pb.WatchTwinsRequest{}
	if name != "" {
		if err := c.hasProperty(name); err != nil {
			return err
		}
		m.Properties = []string{name}
	}
	seen := c.r.Header.Get("Last-Event-ID")
	return c.stream(m, func(e *eventStream, m *pb.WatchTwinsResponse) error {
		props, desired := m.GetState().GetProperties(), m.GetState().GetDesired()
		if d := m.GetDelta(); d != nil {
			props, desired = d.Properties, d.Desired
		}
		if name == "" {
			return e.sendAll(props, desired, detail, m.GetState() != nil)
		}
		return e.sendOne(props[name], desired[name], detail, &seen)
	})
}

// hasProperty refuses a name that the twin's model has not. It asks the twin, on behalf of who may read it.
func (c *restCall) hasProperty(name string) error {
	twin, err := c.twin(true)
	if err != nil {
		return err
	}
	var model struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if twin.State.Properties[name] != nil || json.Unmarshal([]byte(twin.State.ModelJson), &model) != nil || model.Properties[name] != nil {
		return nil // where the model cannot be had, the stream waits for the value
	}
	return noProperty(twin, name)
}

// sendOne sends a property. seen is what the client had when it came back, until the first message after that. With detail that is told in any
// case: quality, and what is asked, change without the value.
func (e *eventStream) sendOne(p *pb.Property, d *pb.Desired, detail bool, seen *string) error {
	if p == nil && (d == nil || !detail) {
		return nil
	}
	had := *seen
	*seen = ""
	at, err := position(p)
	if err != nil || had != "" && had == at && !detail {
		return err
	}
	if had != "" && had != at {
		if err := e.send("gap", "", gapMark{Reason: "values since the last one that was received are in the history"}); err != nil {
			return err
		}
	}
	if detail {
		out, err := detailed(p, d)
		if err != nil {
			return err
		}
		return e.send("", at, out)
	}
	out, err := raw(p.Value)
	if err != nil {
		return err
	}
	return e.send("", at, out)
}

// sendAll sends what changed, by name; first: also where there is nothing.
func (e *eventStream) sendAll(props map[string]*pb.Property, desired map[string]*pb.Desired, detail, first bool) error {
	out, err := shown(props, desired, detail)
	if err != nil || len(out) == 0 && !first {
		return err
	}
	return e.send("", "", out)
}

// eventMessage is one of all events.
type eventMessage struct {
	Name string          `json:"name"`
	Time string          `json:"time"`
	Data json.RawMessage `json:"data"`
}

// events streams what the twin announces: all of it with names and times, or the data of one kind.
func (c *restCall) events() error {
	name := c.r.PathValue("event")
	return c.stream(&pb.WatchTwinsRequest{Events: true, Properties: []string{noSuchProperty}}, func(e *eventStream, m *pb.WatchTwinsResponse) error {
		ev := m.GetEvent()
		if ev == nil || name != "" && ev.Name != name {
			return nil
		}
		data, err := raw(ev.Data)
		if err != nil {
			return err
		}
		id := strconv.FormatInt(ev.Time.AsTime().UnixMilli(), 36)
		if name != "" {
			return e.send("", id, data)
		}
		return e.send("", id, eventMessage{Name: ev.Name, Time: ev.Time.AsTime().Format(time.RFC3339Nano), Data: data})
	})
}

// noSuchProperty keeps values out of a watch that is for events: no property has that name.
const noSuchProperty = "-"
