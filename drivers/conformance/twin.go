package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/script"
	"github.com/polluxhq/pollux/wasm"
)

// prober makes calls of one driver.
type prober struct {
	ctx     context.Context
	box     *drivers.Sandbox
	runner  drivers.Runner
	model   *drivers.Model
	sample  []byte // settings
	report  *Report
	calls   int
	longest time.Duration
	tenants int
	// hung: a call did not end within CallLimit. No other is made after that: each would take as long.
	hung bool
	// scripts of the driver, and heard: what their devices said, as the driver got it.
	scripts []*script.File
	heard   map[string]bool
}

func newProber(ctx context.Context, box *drivers.Sandbox, runner drivers.Runner, r *Report) (*prober, error) {
	model, err := drivers.NewModel(runner.Manifest())
	if err != nil {
		return nil, err
	}
	settings, err := sampleSettings(model)
	if err != nil {
		return nil, err
	}
	return &prober{ctx: ctx, box: box, runner: runner, model: model, sample: settings, report: r, heard: map[string]bool{}}, nil
}

// twin is a twin as its driver sees it. With fresh, each call gets an instance that has served no call before.
type twin struct {
	p          *prober
	tenant     string
	fresh      bool
	model      *drivers.Model
	before     *drivers.Model // as it was when the last call began
	properties map[string]json.RawMessage
	memory     json.RawMessage
	timers     map[string]drivers.Timer
	listens    []drivers.Subscription
	settings   []byte
	host       *host
}

func (p *prober) twin() *twin {
	p.tenants++
	return &twin{p: p, tenant: fmt.Sprintf("probe%d", p.tenants), model: p.model, properties: map[string]json.RawMessage{},
		timers: map[string]drivers.Timer{}, settings: p.sample, host: &host{}}
}

// result of a call. Crash is a trap, a wrong return value or a missed deadline, in words; empty: none.
type result struct {
	effects drivers.Effects
	refusal *drivers.DriverError
	crash   string
	heard   []string
}

// text is all that a call did, to be compared.
func (r *result) text() string {
	b, _ := json.Marshal(struct {
		Effects drivers.Effects
		Refusal *drivers.DriverError
		Crash   string
		Heard   []string
	}{r.effects, r.refusal, r.crash, r.heard})
	return string(b)
}

// call makes one call, and keeps what it changed.
func (t *twin) call(event drivers.Event, input string) result {
	return t.callFor(event, input, CallLimit)
}

// callWithin is call with a deadline; late says that it went on for a second after that.
func (t *twin) callWithin(event drivers.Event, input string, limit time.Duration) (r result, late bool) {
	began := time.Now()
	r = t.callFor(event, input, limit)
	return r, time.Since(began) > limit+time.Second
}

func (t *twin) callFor(event drivers.Event, input string, limit time.Duration) result {
	p := t.p
	if p.hung {
		return result{crash: "was not called, after a call that did not end"}
	}
	if t.fresh {
		p.tenants++
		t.tenant = fmt.Sprintf("probe%d", p.tenants)
	}
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	t.host.heard = nil
	began := time.Now()
	effects, err := p.runner.Handle(ctx, drivers.Call{Event: event, Tenant: t.tenant, Input: []byte(input), State: t.state,
		Settings: t.settings}, t.host)
	p.calls++
	p.longest = max(p.longest, time.Since(began))
	r := result{effects: effects, heard: t.host.heard}
	var trap *wasm.Trap
	switch {
	case err == nil:
		t.keep(&effects)
	case errors.As(err, &r.refusal):
	case errors.As(err, &trap):
		r.crash = trap.Error()
	default:
		r.crash = err.Error()
	}
	p.hung = p.hung || limit == CallLimit && ctx.Err() != nil
	return r
}

func (t *twin) state() []byte {
	memory := t.memory
	if memory == nil {
		memory = json.RawMessage("null")
	}
	b, err := json.Marshal(struct {
		Properties map[string]json.RawMessage `json:"properties"`
		Memory     json.RawMessage            `json:"memory"`
	}{t.properties, memory})
	if err != nil {
		return []byte("{}")
	}
	return b
}

func (t *twin) keep(e *drivers.Effects) {
	t.before = t.model
	for _, c := range e.Changes {
		t.properties[c.Property] = c.Value
	}
	if e.Memory != nil {
		t.memory = e.Memory
	}
	for _, x := range e.Timers {
		t.timers[x.Name] = x
		if x.Cancel {
			delete(t.timers, x.Name)
		}
	}
	for _, s := range e.Subscriptions {
		if !s.Cancel {
			t.listens = append(t.listens, s)
		}
	}
	if e.Describe != nil {
		if m, err := t.model.Patch(e.Describe); err == nil {
			t.model = m
		}
	}
}

// host plays what is around a twin: a device that swallows all and does not answer. With refuse, it refuses everything.
type host struct {
	mu     sync.Mutex
	heard  []string
	refuse error
	// stuck: what waits for the outside waits until the call's deadline.
	stuck bool
	// played is the device of a script, which does answer; nil: none.
	played *rehearsal
	// spoil answers over HTTP what no device should; nil: nothing does.
	spoil *spoiler
}

func (h *host) note(ctx context.Context, format string, args ...any) error {
	h.mu.Lock()
	h.heard = append(h.heard, fmt.Sprintf(format, args...))
	h.mu.Unlock()
	if h.stuck {
		<-ctx.Done()
		return ctx.Err()
	}
	return h.refuse
}

func (h *host) Send(ctx context.Context, frame []byte) error {
	if h.played != nil {
		h.played.sent("", frame)
	}
	return h.note(ctx, "send %q", frame)
}

func (h *host) Request(ctx context.Context, frame []byte, _ time.Duration) ([]byte, error) {
	if err := h.note(ctx, "request %q", frame); err != nil {
		return nil, err
	}
	if h.played != nil {
		return h.played.request(frame)
	}
	return nil, drivers.ErrTimeout
}

func (h *host) Publish(ctx context.Context, topic string, payload []byte, qos byte, retain bool) error {
	if h.played != nil {
		h.played.sent(topic, payload)
	}
	return h.note(ctx, "publish %q %q %d %t", topic, payload, qos, retain)
}

func (h *host) HTTP(ctx context.Context, r drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	if err := h.note(ctx, "http %s %q %v %q", r.Method, r.URL, r.Headers, r.Body); err != nil {
		return drivers.HTTPResponse{}, err
	}
	switch {
	case h.spoil != nil:
		return h.spoil.answer(), nil
	case h.played != nil:
		return h.played.http(r)
	}
	return drivers.HTTPResponse{Status: 503}, nil
}

func (h *host) Call(ctx context.Context, c drivers.TwinCall) (drivers.TwinAnswer, error) {
	if err := h.note(ctx, "call %+v", c); err != nil {
		return drivers.TwinAnswer{}, err
	}
	if h.played != nil {
		return h.played.called(c), nil
	}
	return drivers.TwinAnswer{Error: &drivers.TwinError{Code: drivers.CallNotFound, Message: "there is no such twin"}}, nil
}

func (h *host) Connection(ctx context.Context, do drivers.ConnectionOp) error {
	return h.note(ctx, "connection %s", do)
}

func (h *host) Log(level, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, "log "+level+" "+text)
}
