// Package peertest plays a twin around a compiled driver: the real sandbox, and a connection that the test opens. It
// applies effects and checks them against the driver's model, as a node does. It keeps nothing on disk, has no queue of
// commands and does not retry: those are tested where they are built.
package peertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
)

// Deadline of each wait and each call.
const Deadline = 20 * time.Second

// Load builds the driver in dir and loads it into a sandbox that lives as long as the test.
func Load(tb testing.TB, dir string) drivers.Runner {
	tb.Helper()
	box, err := drivers.NewSandbox(drivers.SandboxOptions{CacheDir: drivertest.CacheDir(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := box.Close(); err != nil {
			tb.Error(err)
		}
	})
	file := drivertest.Build(tb, dir)
	if _, err := box.Verify(tb.Context(), file); err != nil {
		tb.Fatal(err)
	}
	r, err := box.Load(tb.Context(), file)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.Close() })
	return r
}

// Twin is a twin under test. It is a drivers.Sink for its connection.
type Twin struct {
	tb       testing.TB
	runner   drivers.Runner
	settings []byte
	calls    chan func()
	done     chan struct{}

	publish func(topic string, payload []byte, qos byte, retain bool) error // nil: there is no broker
	http    drivers.HTTPClient

	mu         sync.Mutex
	conn       drivers.Conn
	model      *drivers.Model
	properties map[string]json.RawMessage
	memory     json.RawMessage
	timers     map[string]*time.Timer
	pending    chan outcome
	connected  bool
	changed    chan struct{}
	faults     []error
	events     []drivers.Emitted
	found      []drivers.Discovery
	logs       []string
}

type outcome struct {
	output []byte
	err    error
}

// New returns a twin with its load event done. Settings are JSON; defaults apply.
func New(tb testing.TB, r drivers.Runner, settings string) *Twin {
	tb.Helper()
	return NewPublisher(tb, r, settings, nil)
}

// NewPublisher is New for a driver that publishes from its load event on; publish sends to the broker.
func NewPublisher(tb testing.TB, r drivers.Runner, settings string, publish func(topic string, payload []byte, qos byte, retain bool) error) *Twin {
	tb.Helper()
	model, err := drivers.NewModel(r.Manifest())
	if err != nil {
		tb.Fatal(err)
	}
	full, err := model.ValidateSettings([]byte(settings))
	if err != nil {
		tb.Fatal(err)
	}
	t := &Twin{
		tb: tb, runner: r, settings: full, model: model, publish: publish, calls: make(chan func(), 256), done: make(chan struct{}),
		properties: map[string]json.RawMessage{}, timers: map[string]*time.Timer{}, changed: make(chan struct{}),
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case f := <-t.calls:
				f()
			case <-t.done:
				return
			}
		}
	})
	tb.Cleanup(func() {
		t.mu.Lock()
		for _, timer := range t.timers {
			timer.Stop()
		}
		conn := t.conn
		t.mu.Unlock()
		if conn != nil {
			_ = conn.Close()
		}
		close(t.done)
		wg.Wait()
	})
	t.post(drivers.EventLoad, []byte(`{"reason":"start"}`))
	return t
}

// Attach gives the twin the connection that it sends on, and closes with the test.
func (t *Twin) Attach(c drivers.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conn = c
	t.notify()
}

// link gives the connection. One that is up may have said so before the test had it in hand to attach it.
func (t *Twin) link(ctx context.Context) drivers.Conn {
	for {
		t.mu.Lock()
		c, up, changed := t.conn, t.connected, t.changed
		t.mu.Unlock()
		if c != nil || !up {
			return c
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		case <-t.done:
			return nil
		}
	}
}

// Connected implements drivers.Sink.
func (t *Twin) Connected() { t.setConnected(true); t.post(drivers.EventConnected, []byte("{}")) }

// Disconnected implements drivers.Sink.
func (t *Twin) Disconnected(err error) {
	t.setConnected(false)
	input, _ := json.Marshal(map[string]string{"error": fmt.Sprint(err)})
	t.post(drivers.EventDisconnected, input)
	t.do(func() { t.decide(outcome{err: drivers.ErrDisconnected}) })
}

// Received implements drivers.Sink.
func (t *Twin) Received(frame []byte) { t.post(drivers.EventReceived, frame) }

func (t *Twin) setConnected(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.connected = on
	t.notify()
}

// notify wakes who waits. The caller holds the lock.
func (t *Twin) notify() {
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *Twin) do(f func()) {
	select {
	case t.calls <- f:
	case <-t.done:
	}
}

// post lets an event be handled in its turn.
func (t *Twin) post(event drivers.Event, input []byte) {
	t.do(func() {
		if event == drivers.EventReceived && t.waiting() {
			event = drivers.EventAnswer
		}
		t.call(event, input)
	})
}

func (t *Twin) waiting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending != nil
}

func (t *Twin) decide(o outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pending != nil {
		t.pending <- o
		t.pending = nil
	}
}

// call makes one call, applies its effects and gives its output.
func (t *Twin) call(event drivers.Event, input []byte) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), Deadline)
	defer cancel()
	e, err := t.runner.Handle(ctx, drivers.Call{
		Event: event, Input: input, Tenant: "default", Settings: t.settings, State: t.state,
	}, host{t: t})
	var refusal *drivers.DriverError
	if err != nil && !errors.As(err, &refusal) {
		t.tb.Errorf("event %d with %q: %v", event, input, err)
	}
	if err == nil {
		t.apply(&e)
	}
	switch deciding := event == drivers.EventCommand || event == drivers.EventAnswer; {
	case deciding && !(err == nil && e.Pending):
		t.decide(outcome{e.Output, err})
	case !deciding && err != nil:
		t.mu.Lock()
		t.faults = append(t.faults, err)
		t.notify()
		t.mu.Unlock()
	}
	return e.Output
}

func (t *Twin) state() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	memory := t.memory
	if memory == nil {
		memory = json.RawMessage("null")
	}
	b, err := json.Marshal(map[string]any{"properties": t.properties, "memory": memory})
	if err != nil {
		t.tb.Errorf("state: %v", err)
	}
	return b
}

func (t *Twin) apply(e *drivers.Effects) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Describe != nil {
		model, err := t.model.Patch(e.Describe) // after what was described before
		if err != nil {
			t.tb.Errorf("describe %s: %v", e.Describe, err)
		} else {
			t.model = model
		}
	}
	for _, c := range e.Changes {
		p := t.model.Property(c.Property)
		switch {
		case p == nil:
			t.tb.Errorf("property %s is not in the model", c.Property)
		case string(c.Value) != "null" && !p.Fits(c.Value):
			t.tb.Errorf("property %s: %s does not fit %s", c.Property, c.Value, p.Schema)
		}
		t.properties[c.Property] = slices.Clone(c.Value)
	}
	if e.Memory != nil {
		t.memory = slices.Clone(e.Memory)
	}
	for _, x := range e.Events {
		if t.model.Event(x.Name) == nil {
			t.tb.Errorf("event %s is not in the model", x.Name)
		}
	}
	t.events = append(t.events, e.Events...)
	t.found = append(t.found, e.Discovered...)
	for _, x := range e.Timers {
		t.set(x)
	}
	t.notify()
}

// set sets or removes a timer. The caller holds the lock.
func (t *Twin) set(x drivers.Timer) {
	if old := t.timers[x.Name]; old != nil {
		old.Stop()
		delete(t.timers, x.Name)
	}
	if x.Cancel {
		return
	}
	data := x.Data
	if data == nil {
		data = json.RawMessage("null")
	}
	input, err := json.Marshal(map[string]any{"name": x.Name, "data": data})
	if err != nil {
		t.tb.Errorf("timer %s: %v", x.Name, err)
	}
	after := x.After
	if after == 0 {
		after = x.Every
	}
	var timer *time.Timer
	timer = time.AfterFunc(after, func() {
		t.post(drivers.EventTimer, input)
		t.mu.Lock()
		defer t.mu.Unlock()
		if x.Every > 0 && t.timers[x.Name] == timer {
			timer.Reset(x.Every)
		}
	})
	t.timers[x.Name] = timer
}

// Invoke calls an action with JSON input (null: none) and waits for its outcome: the driver's refusal is a
// *drivers.DriverError.
func (t *Twin) Invoke(action, input string) (output string, err error) {
	t.tb.Helper()
	if err := t.current().ValidateAction(action, []byte(input)); err != nil {
		return "", err
	}
	return t.command(fmt.Sprintf(`{"action":%q,"input":%s}`, action, input))
}

// Set asks for a property's value, JSON.
func (t *Twin) Set(property, value string) error {
	t.tb.Helper()
	if err := t.current().ValidateProperty(property, []byte(value)); err != nil {
		return err
	}
	_, err := t.command(fmt.Sprintf(`{"property":%q,"value":%s}`, property, value))
	return err
}

func (t *Twin) current() *drivers.Model {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.model
}

// answerWithin is how long a pending command waits for its answer.
const answerWithin = 5 * time.Second

func (t *Twin) command(input string) (string, error) {
	t.tb.Helper()
	result := make(chan outcome, 1)
	t.do(func() {
		t.mu.Lock()
		t.pending = result
		t.mu.Unlock()
		t.call(drivers.EventCommand, []byte(input))
	})
	select {
	case o := <-result:
		return string(o.output), o.err
	case <-time.After(answerWithin):
		// As the engine does: an answer that does not come ends the command, not the twin.
		t.do(func() { t.decide(outcome{}) })
		return "", fmt.Errorf("%s: %w; the driver remembers %s", input, drivers.ErrTimeout, t.Memory())
	}
}

// Memory is what the driver remembers, JSON.
func (t *Twin) Memory() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.memory)
}

// Model as described by now, JSON.
func (t *Twin) Model() *drivers.Model { return t.current() }

// Until waits until check is true of the twin; check runs with the properties, and must not call the twin.
func (t *Twin) Until(what string, check func(properties map[string]json.RawMessage, connected bool) bool) {
	t.tb.Helper()
	limit := time.After(Deadline)
	for {
		t.mu.Lock()
		ok, changed := check(t.properties, t.connected), t.changed
		t.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.mu.Lock()
			defer t.mu.Unlock()
			var all []string
			for _, name := range slices.Sorted(maps.Keys(t.properties)) {
				all = append(all, name+"="+string(t.properties[name]))
			}
			t.tb.Fatalf("never: %s; properties %s; memory %s; faults %v; log %q", what, strings.Join(all, " "), t.memory, t.faults, t.logs)
		}
	}
}

// UntilHas waits until a property has the value, JSON.
func (t *Twin) UntilHas(property, value string) {
	t.tb.Helper()
	t.Until(property+" is "+value, func(p map[string]json.RawMessage, _ bool) bool { return string(p[property]) == value })
}

// UntilFault waits for a refusal of an event that is no command, and returns the newest.
func (t *Twin) UntilFault() error {
	t.tb.Helper()
	t.Until("a fault", func(map[string]json.RawMessage, bool) bool { return len(t.faults) > 0 })
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.faults[len(t.faults)-1]
}

// Events that were emitted.
func (t *Twin) Events() []drivers.Emitted {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.events)
}

// UntilEvent waits for an event of that name whose data, JSON, has the text in it.
func (t *Twin) UntilEvent(name, text string) {
	t.tb.Helper()
	t.Until("event "+name+" with "+text, func(map[string]json.RawMessage, bool) bool {
		return slices.ContainsFunc(t.events, func(e drivers.Emitted) bool { return e.Name == name && strings.Contains(string(e.Data), text) })
	})
}

// UntilFound waits for the discovery of a device by its alias's value.
func (t *Twin) UntilFound(value string) drivers.Discovery {
	t.tb.Helper()
	var found drivers.Discovery
	t.Until("discovery of "+value, func(map[string]json.RawMessage, bool) bool {
		for _, d := range t.found {
			if d.Value == value {
				found = d
				return true
			}
		}
		return false
	})
	return found
}

// host is what a running call reaches.
type host struct {
	drivers.Denied
	t *Twin
}

func (h host) Send(ctx context.Context, frame []byte) error {
	c := h.t.link(ctx)
	if c == nil {
		return drivers.ErrDisconnected
	}
	return c.Send(ctx, frame)
}

// Connection drops the connection, where the driver asks for that.
func (h host) Connection(ctx context.Context, do drivers.ConnectionOp) error {
	conn, ok := h.t.link(ctx).(interface{ Reset() })
	if do != drivers.CloseConnection || !ok {
		return drivers.ErrDenied
	}
	conn.Reset()
	return nil
}

func (h host) Publish(_ context.Context, topic string, payload []byte, qos byte, retain bool) error {
	if h.t.publish == nil {
		return drivers.ErrDenied
	}
	return h.t.publish(topic, payload, qos, retain)
}

func (h host) Log(level, text string) {
	h.t.mu.Lock()
	defer h.t.mu.Unlock()
	h.t.logs = append(h.t.logs, level+" "+text)
}
