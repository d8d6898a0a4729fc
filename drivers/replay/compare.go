package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// state is a twin's state as its driver sees it.
type state struct {
	Properties map[string]json.RawMessage `json:"properties"`
	Memory     json.RawMessage            `json:"memory"`
}

func readState(text string) (*state, error) {
	s := &state{}
	if err := json.Unmarshal([]byte(text), s); err != nil {
		return nil, fmt.Errorf("recorded state: %w", err)
	}
	if s.Properties == nil {
		s.Properties = map[string]json.RawMessage{}
	}
	if len(s.Memory) == 0 {
		s.Memory = json.RawMessage("null")
	}
	return s, nil
}

func (s *state) json() ([]byte, error) { return json.Marshal(s) }

func (s *state) apply(e *effects) {
	for _, p := range e.Properties {
		s.Properties[p.Name] = p.Value
	}
	if len(e.Memory) > 0 {
		s.Memory = e.Memory
	}
}

// same compares JSON by its meaning.
func same(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	if len(a) > 0 && json.Unmarshal(a, &x) != nil || len(b) > 0 && json.Unmarshal(b, &y) != nil {
		return false
	}
	return reflect.DeepEqual(x, y)
}

// compareStates compares what the two versions left.
func (p *player) compareStates() {
	p.at = time.Time{}
	names := map[string]bool{}
	for n := range p.before.Properties {
		names[n] = true
	}
	for n := range p.now.Properties {
		names[n] = true
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if !same(p.before.Properties[n], p.now.Properties[n]) {
			p.end("property "+n, p.before.Properties[n], p.now.Properties[n])
		}
	}
	if !same(p.before.Memory, p.now.Memory) {
		p.end("memory", p.before.Memory, p.now.Memory)
	}
}

func (p *player) end(what string, was, now json.RawMessage) {
	p.differ(0, 0, what, string(was), string(now))
	if n := len(p.result.Differences); n > 0 && p.result.Differences[n-1].Call == 0 {
		p.result.Differences[n-1].Event = "at the end"
	}
}

// compareHost compares what was asked of the host, log lines apart.
func (p *player) compareHost(n int, kind drivers.Event, was, now []*pb.RecordedHostCall) {
	loud := func(all []*pb.RecordedHostCall) []*pb.RecordedHostCall {
		return slices.DeleteFunc(slices.Clone(all), func(c *pb.RecordedHostCall) bool { return c.Kind == kindLog })
	}
	was, now = loud(was), loud(now)
	for i := range max(len(was), len(now)) {
		var a, b *pb.RecordedHostCall
		if i < len(was) {
			a = was[i]
		}
		if i < len(now) {
			b = now[i]
		}
		if a.GetKind() == b.GetKind() && a.GetTarget() == b.GetTarget() && bytes.Equal(a.GetData(), b.GetData()) {
			continue
		}
		what := a.GetKind()
		if what == "" {
			what = b.GetKind()
		}
		p.differ(n, kind, what, hostText(a), hostText(b))
	}
}

func hostText(c *pb.RecordedHostCall) string {
	if c == nil {
		return ""
	}
	text := string(c.Data)
	if c.Target != "" {
		text = strings.TrimSpace(c.Target + " " + text)
	}
	return text
}

// compareEffects compares what a call wanted changed, memory apart: how a version remembers is its own affair, until the end.
func (p *player) compareEffects(n int, kind drivers.Event, was, now *effects) {
	if !same(was.Output, now.Output) {
		p.differ(n, kind, "output", string(was.Output), string(now.Output))
	}
	if was.Pending != now.Pending {
		p.differ(n, kind, "pending", fmt.Sprint(was.Pending), fmt.Sprint(now.Pending))
	}
	last := func(e *effects) map[string]json.RawMessage {
		m := map[string]json.RawMessage{}
		for _, x := range e.Properties {
			m[x.Name] = x.Value
		}
		return m
	}
	a, b := last(was), last(now)
	for _, name := range slices.Sorted(maps.Keys(both(a, b))) {
		if !same(a[name], b[name]) {
			p.differ(n, kind, "property "+name, string(a[name]), string(b[name]))
		}
	}
	for _, x := range []struct {
		what string
		a, b any
	}{{"event", was.Events, now.Events}, {"timer", was.Timers, now.Timers}, {"describe", was.Describe, now.Describe},
		{"discovered", was.Discovered, now.Discovered}, {"subscription", was.Subscriptions, now.Subscriptions}} {
		textA, _ := json.Marshal(x.a) // what came as JSON goes as JSON
		textB, _ := json.Marshal(x.b)
		if !same(textA, textB) {
			p.differ(n, kind, x.what, string(textA), string(textB))
		}
	}
}

func both(a, b map[string]json.RawMessage) map[string]bool {
	all := map[string]bool{}
	for n := range a {
		all[n] = true
	}
	for n := range b {
		all[n] = true
	}
	return all
}

// answers is a host that answers as was recorded: each kind of call in its order. What was not recorded is answered as if
// nothing could be reached.
type answers struct {
	left map[string][]*pb.RecordedHostCall
}

var errNotRecorded = fmt.Errorf("replay: nothing was recorded for this: %w", drivers.ErrDisconnected)

func newAnswers(all []*pb.RecordedHostCall) *answers {
	a := &answers{left: map[string][]*pb.RecordedHostCall{}}
	for _, c := range all {
		a.left[c.Kind] = append(a.left[c.Kind], c)
	}
	return a
}

func (a *answers) next(kind string) (*pb.RecordedHostCall, error) {
	if len(a.left[kind]) == 0 {
		return nil, errNotRecorded
	}
	c := a.left[kind][0]
	a.left[kind] = a.left[kind][1:]
	if c.Error != "" {
		return c, recorded(c.Error)
	}
	return c, nil
}

// recorded makes an error of what was recorded of one, as far as drivers tell errors apart.
func recorded(text string) error {
	for _, known := range []error{drivers.ErrDisconnected, drivers.ErrDenied, drivers.ErrTooLarge, context.DeadlineExceeded, context.Canceled} {
		if strings.Contains(text, known.Error()) {
			return fmt.Errorf("%s: %w", text, known)
		}
	}
	return errors.New(text)
}

// Send implements drivers.Host. What was not sent before is taken: a device says nothing to it.
func (a *answers) Send(context.Context, []byte) error { return a.quiet(kindSend) }

func (a *answers) quiet(kind string) error {
	if _, err := a.next(kind); err != nil && !errors.Is(err, errNotRecorded) {
		return err
	}
	return nil
}

// Request implements drivers.Host.
func (a *answers) Request(context.Context, []byte, time.Duration) ([]byte, error) {
	c, err := a.next(kindRequest)
	if err != nil {
		return nil, err
	}
	return c.Answer, nil
}

// Publish implements drivers.Host.
func (a *answers) Publish(context.Context, string, []byte, byte, bool) error {
	return a.quiet(kindPublish)
}

// HTTP implements drivers.Host.
func (a *answers) HTTP(context.Context, drivers.HTTPRequest) (r drivers.HTTPResponse, err error) {
	c, err := a.next(kindHTTP)
	if err == nil {
		err = json.Unmarshal(c.Answer, &r)
	}
	return r, err
}

// Call implements drivers.Host.
func (a *answers) Call(context.Context, drivers.TwinCall) (r drivers.TwinAnswer, err error) {
	c, err := a.next(kindCall)
	if err == nil {
		err = json.Unmarshal(c.Answer, &r)
	}
	return r, err
}

// Connection implements drivers.Host.
func (a *answers) Connection(context.Context, drivers.ConnectionOp) error {
	return a.quiet(kindConnection)
}

// Log implements drivers.Host.
func (*answers) Log(string, string) {}
