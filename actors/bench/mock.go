package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/script"
)

// Other twins are twins like any: in the store, with a queue, subscribed to and called by way of the router. Only their
// drivers are no modules.

// stub is the module that stands for a driver that is none: one page of memory, and drv_handle, which returns 0.
var stub = []byte("\x00asm\x01\x00\x00\x00" + // header
	"\x01\x07\x01\x60\x02\x7f\x7f\x01\x7f" + // (i32, i32) -> i32
	"\x03\x02\x01\x00" + // one function of that type
	"\x05\x04\x01\x01\x01\x01" + // one page, one at most
	"\x07\x17\x02\x06memory\x02\x00\x0adrv_handle\x00\x00" +
	"\x0a\x06\x01\x04\x00\x41\x00\x0b") // i32.const 0

// reportAction is the action by which the script has a mock report values.
const reportAction = "script.report"

// mock is the driver of another twin.
type mock struct {
	name     string
	manifest *drivers.Manifest
	b        *Bench
}

// newMock makes the file and the driver for another twin of the script.
func newMock(name string, m script.Mock, b *Bench) (file []byte, d *mock, err error) {
	properties := map[string]any{}
	for p, v := range m.Properties {
		properties[p] = map[string]any{"type": typeOf(v)}
	}
	anything := map[string]any{"input": map[string]any{}, "output": map[string]any{}}
	actions := map[string]any{reportAction: anything}
	for _, a := range m.Actions {
		actions[a] = anything
	}
	manifest, err := json.Marshal(map[string]any{"contract": "twin1", "name": mockName(name, properties, actions), "version": "1.0.0", "capabilities": []string{"state_set"},
		"model": map[string]any{"@context": "https://www.w3.org/2022/wot/td/v1.1", "@type": "tm:ThingModel", "title": name,
			"properties": properties, "actions": actions}})
	if err != nil {
		return nil, nil, err
	}
	if file, err = drivers.AppendManifest(stub, manifest); err != nil {
		return nil, nil, err
	}
	d = &mock{name: name, b: b}
	if d.manifest, err = drivers.Check(file); err != nil {
		return nil, nil, fmt.Errorf("twin %s of the script: %w", name, err)
	}
	return file, d, nil
}

// mockName is different for each thing that a script makes of a name.
func mockName(name string, model ...any) string {
	sum := sha256.Sum256([]byte(name + script.JSON(model)))
	return "mock-" + hex.EncodeToString(sum[:8])
}

func typeOf(v json.RawMessage) string {
	switch v[0] {
	case 't', 'f':
		return "boolean"
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	}
	return "number"
}

// Manifest implements drivers.Runner.
func (d *mock) Manifest() *drivers.Manifest { return d.manifest }

// Close implements drivers.Runner.
func (d *mock) Close() error { return nil }

// Handle implements drivers.Runner.
func (d *mock) Handle(ctx context.Context, call drivers.Call, _ drivers.Host) (drivers.Effects, error) {
	switch call.Event {
	case drivers.EventLoad:
		return drivers.Effects{Changes: changes(d.b.rig.Load().test.Twins[d.name].Properties)}, nil
	case drivers.EventCommand:
		return d.command(ctx, call.Input)
	}
	return drivers.Effects{}, nil
}

func changes(values map[string]json.RawMessage) []drivers.Change {
	var out []drivers.Change
	for _, p := range slices.Sorted(maps.Keys(values)) {
		out = append(out, drivers.Change{Property: p, Value: values[p]})
	}
	return out
}

func (d *mock) command(ctx context.Context, input []byte) (drivers.Effects, error) {
	var c struct {
		Action, Property string
		Input, Value     json.RawMessage
	}
	if err := json.Unmarshal(input, &c); err != nil {
		return drivers.Effects{}, err
	}
	if c.Action == reportAction {
		var values map[string]json.RawMessage
		err := json.Unmarshal(c.Input, &values)
		return drivers.Effects{Changes: changes(values)}, err
	}
	q := script.Asked{Twin: d.name, Action: c.Action, Property: c.Property, HasInput: true}
	if q.Input = script.Plain(c.Input); c.Property != "" {
		q.Input = script.Plain(c.Value)
	}
	o, err := d.b.rig.Load().out.ask(ctx, q)
	if err != nil {
		return drivers.Effects{}, err
	}
	if o.Name != "done" {
		return drivers.Effects{}, &drivers.DriverError{Code: int32(max(o.Code, 1)), Message: o.Message}
	}
	eff := drivers.Effects{Output: []byte(script.JSON(o.Output))}
	if c.Property != "" {
		eff.Changes = []drivers.Change{{Property: c.Property, Value: c.Value}}
	}
	return eff, nil
}

// ask brings what a twin was asked to the script.
func (o *outside) ask(ctx context.Context, call script.Asked) (script.Outcome, error) {
	o.note("-> twin " + call.Twin + ": " + call.Action + call.Property + " " + script.JSON(call.Input))
	o.mu.Lock()
	q := &asked[script.Asked, script.Outcome]{question: call, wake: func() {}, answer: make(chan script.Outcome, 1)}
	for _, r := range o.rules {
		if r.Called != nil && !r.spent() && len(askedDiff(r.Called, &call)) == 0 {
			r.used++
			q.give(*r.Reply)
			break
		}
	}
	o.called = append(o.called, q)
	if !q.answered {
		q.wake = o.park()
	}
	ended := o.ended
	o.mu.Unlock()
	if ended {
		return script.Outcome{}, errEnded
	}
	defer q.wake()
	select {
	case a := <-q.answer:
		return a, nil
	case <-ctx.Done():
		return script.Outcome{}, ctx.Err()
	}
}

// askedDiff shows in what a question to another twin differs from the one that is expected.
func askedDiff(want, got *script.Asked) []string {
	var out []string
	for _, f := range []struct{ what, want, got string }{
		{"twin", want.Twin, got.Twin}, {"action", want.Action, got.Action}, {"property", want.Property, got.Property},
	} {
		if f.want != f.got && (f.want != "" || f.what != "twin" && want.Action+want.Property != "") {
			out = append(out, "- "+f.what+": "+f.want, "+ "+f.what+": "+f.got)
		}
	}
	if want.HasInput {
		out = append(out, script.Diff(want.Input, got.Input, false)...)
	}
	return out
}

// ancestor is an earlier version of the driver under test, of which the script says what it left behind.
type ancestor struct {
	manifest *drivers.Manifest
	b        *Bench
}

// Manifest implements drivers.Runner.
func (d *ancestor) Manifest() *drivers.Manifest { return d.manifest }

// Close implements drivers.Runner.
func (d *ancestor) Close() error { return nil }

// Handle implements drivers.Runner.
func (d *ancestor) Handle(_ context.Context, call drivers.Call, _ drivers.Host) (drivers.Effects, error) {
	was := d.b.rig.Load().test.Was
	if call.Event != drivers.EventLoad || was == nil {
		return drivers.Effects{}, nil
	}
	return drivers.Effects{Memory: was.Memory, Changes: changes(was.Properties)}, nil
}
