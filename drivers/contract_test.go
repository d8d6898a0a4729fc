package drivers_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

var (
	pull   = wasmtest.Func{Params: []byte{wasmtest.I32}}
	push   = wasmtest.Func{Params: []byte{wasmtest.I32, wasmtest.I32}}
	entry  = wasmtest.Func{Params: []byte{wasmtest.I32, wasmtest.I32}, Results: []byte{wasmtest.I32}}
	minial = `{"contract":"twin1","name":"tiny","version":"1.0.0","capabilities":[%s],"model":{}}`
)

// forwarder is a driver that hands its input to a capability, times over, and fails with the code of the last refusal.
// Its reply becomes the output where there is one.
func forwarder(capability string, times int) []byte {
	one := wasmtest.Code(wasmtest.Const(0), wasmtest.Local(1), wasmtest.Call(3), 0x21, 2)
	code := wasmtest.Code(wasmtest.Const(0), wasmtest.Call(0)) // input(0)
	for range times {
		code = append(code, one...)
	}
	code = wasmtest.Code(code,
		wasmtest.Local(2), wasmtest.Const(0), 0x48, 0x04, 0x40, // result < 0: return -result
		wasmtest.Const(0), wasmtest.Local(2), 0x6b, 0x0f, 0x0b,
		wasmtest.Const(1024), wasmtest.Call(1), // reply(1024)
		wasmtest.Const(1024), wasmtest.Local(2), wasmtest.Call(2), // output(1024, result)
		wasmtest.Const(0))
	m := &wasmtest.Module{
		Imports: []wasmtest.Import{{Module: "twin1", Name: "input", Type: pull}, {Module: "twin1", Name: "reply", Type: pull},
			{Module: "twin1", Name: "output", Type: push}, {Module: "twin1", Name: capability, Type: entry}},
		Functions: []wasmtest.Function{{Type: entry, Locals: 1, Code: code}},
		Exports:   []wasmtest.Export{{Name: "drv_handle", Index: 4}, {Name: "memory", Kind: 2}},
		Pages:     []uint32{16},
		Custom:    map[string][]byte{"driver.manifest": fmt.Appendf(nil, minial, `"`+capability+`"`)},
	}
	return m.Bytes()
}

func TestCapabilitiesRefuseWithTheirCode(t *testing.T) {
	set := metrics.NewSet()
	s := newSandbox(t, drivers.SandboxOptions{Metrics: set, Limits: drivers.CallLimits{LogLines: 2, LogLineBytes: 8, Sends: 2,
		SendBytes: 64, Events: 2, Timers: 2, Discoveries: 2, Changes: 2, MemoryBytes: 16, ValueBytes: 32, EffectBytes: 1000}})
	long := strings.Repeat("x", 100)
	cases := []struct {
		capability, input string
		times             int
		code              int32 // 0: done
	}{
		{"send", "hello", 2, 0}, {"send", "hello", 3, 5}, {"send", long, 1, 4},
		{"request", "\x10\x00\x00\x00ping", 1, 2}, {"request", "xx", 1, 6}, {"request", "\x10\x00\x00\x00" + long, 1, 4},
		{"publish", "\x05a/b\x00on", 2, 0}, {"publish", "\x05a/b\x00on", 3, 5}, {"publish", "\x03a/b\x00on", 1, 6},
		{"publish", "\x08a/b\x00on", 1, 6}, {"publish", "\x00a/b", 1, 6}, {"publish", "\x00\x00x", 1, 6}, {"publish", "", 1, 6},
		{"publish", "\x00a/+\x00x", 1, 6}, {"publish", "\x00a\xff\x00x", 1, 6},
		{"log", "\x01hello", 2, 0}, {"log", "\x01hello", 3, 5}, {"log", "\x04hello", 1, 6}, {"log", "", 1, 6},
		{"emit", `{"name":"e","data":[1]}`, 2, 0}, {"emit", `{"name":"e"}`, 3, 5}, {"emit", `{"data":1}`, 1, 6},
		{"emit", `{"name":"e","data":"` + long + `"}`, 1, 4}, {"emit", `[]`, 1, 6}, {"emit", `{"name":"e"`, 1, 6},
		{"schedule", `{"name":"t","after":10,"every":20,"data":{}}`, 2, 0}, {"schedule", `{"name":"t","after":1}`, 3, 5},
		{"schedule", `{"name":"t","after":-1}`, 1, 6}, {"schedule", `{"name":"t","after":1.5}`, 1, 6}, {"schedule", `{"after":1}`, 1, 6},
		{"schedule", `{"name":"t","after":1,"data":"` + long + `"}`, 1, 4}, {"schedule", `{"name":"t","after":1e15}`, 1, 6},
		{"state_set", `{"set":{"a":1,"b":"x"},"memory":{"k":1},"time":5,"quality":"stale"}`, 1, 0},
		{"state_set", `{"set":{"a":1,"b":2,"c":3}}`, 1, 5}, {"state_set", `{"set":{"a":"` + long + `"}}`, 1, 4},
		{"state_set", `{"memory":"` + long[:20] + `"}`, 1, 4}, {"state_set", `{"set":[1]}`, 1, 6}, {"state_set", `{"sit":{}}`, 1, 6},
		{"state_set", `{"set":{"":1}}`, 1, 6}, {"state_set", `{"quality":"fine"}`, 1, 6}, {"state_set", `{"time":-1}`, 1, 6},
		{"state_set", "{\"set\":{\"a\":\"\xff\"}}", 1, 6}, {"state_set", `{"x":"` + strings.Repeat(long, 10) + `"}`, 1, 4},
		{"describe", `{"properties":{}}`, 1, 0}, {"describe", `5`, 1, 6},
		{"discover", `{"network":"mqtt","key":"topic","value":"x"}`, 2, 0}, {"discover", `{"network":"m","key":"k","value":"v"}`, 3, 5},
		{"discover", `{"network":"m","key":"k"}`, 1, 6}, {"discover", `{"network":"m","key":"k","value":"v","settings":[]}`, 1, 6},
	}
	for _, c := range cases {
		name := fmt.Sprintf("%s %.30q %d times", c.capability, c.input, c.times)
		r := load(t, s, forwarder(c.capability, c.times))
		h := &host{}
		e, err := r.Handle(t.Context(), drivers.Call{Event: drivers.EventReceived, Input: []byte(c.input)}, h)
		var refusal *drivers.DriverError
		switch {
		case c.code == 0 && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.code != 0 && (!errors.As(err, &refusal) || refusal.Code != c.code):
			t.Errorf("%s: got %v, want code -%d", name, err, c.code)
		case c.code != 0 && (e.Changes != nil || e.Events != nil || e.Timers != nil || e.Memory != nil):
			t.Errorf("%s: effects of a call that failed: %+v", name, e)
		}
	}
	for _, reason := range []string{"limit", "size"} {
		if set.GetOrCreateCounter(`pollux_driver_capabilities_refused_total{reason="`+reason+`"}`).Get() == 0 {
			t.Errorf("no refusal is counted for %s", reason)
		}
	}
}

// TestLimitsOfAWholeCall: what all capabilities have together, and the output.
func TestLimitsOfAWholeCall(t *testing.T) {
	for _, c := range []struct {
		limits            drivers.CallLimits
		capability, input string
		times             int
		code              int32 // 0: none
		crash             string
	}{
		{drivers.CallLimits{HostCalls: 3}, "setting", "a", 3, 0, ""},
		{drivers.CallLimits{HostCalls: 3}, "setting", "a", 4, 5, ""},
		{drivers.CallLimits{LogBytes: 12}, "log", "\x01hello", 2, 0, ""},
		{drivers.CallLimits{LogBytes: 12}, "log", "\x01hello", 3, 5, ""},
		{drivers.CallLimits{OutputBytes: 4}, "setting", "a", 1, 0, ""},
		{drivers.CallLimits{OutputBytes: 3}, "setting", "a", 1, 0, "the output has 4 bytes; the limit is 3"},
	} {
		r := load(t, newSandbox(t, drivers.SandboxOptions{Limits: c.limits}), forwarder(c.capability, c.times))
		_, err := r.Handle(t.Context(), drivers.Call{Event: drivers.EventReceived, Input: []byte(c.input)}, &host{})
		var refusal *drivers.DriverError
		var trap *wasm.Trap
		switch {
		case c.crash != "":
			if !errors.As(err, &trap) || trap.Reason != c.crash {
				t.Errorf("%s %d times: %v, want a crash: %s", c.capability, c.times, err, c.crash)
			}
		case c.code != 0:
			if !errors.As(err, &refusal) || refusal.Code != c.code {
				t.Errorf("%s %d times: %v, want code -%d", c.capability, c.times, err, c.code)
			}
		case err != nil:
			t.Errorf("%s %d times: %v", c.capability, c.times, err)
		}
	}
}

func TestCapabilitiesGiveTheirEffects(t *testing.T) {
	s := newSandbox(t, drivers.SandboxOptions{})
	handle := func(capability, input string, call drivers.Call, h *host) drivers.Effects {
		t.Helper()
		call.Event, call.Input = drivers.EventReceived, []byte(input)
		e, err := load(t, s, forwarder(capability, 1)).Handle(t.Context(), call, h)
		if err != nil {
			t.Fatalf("%s: %v", capability, err)
		}
		return e
	}
	h := &host{onRequest: func(_ context.Context, frame []byte, timeout time.Duration) ([]byte, error) {
		return fmt.Appendf(nil, `"%s %s"`, frame, timeout), nil
	}}
	if e := handle("request", "\xe8\x03\x00\x00ping", drivers.Call{}, h); string(e.Output) != `"ping 1s"` {
		t.Errorf("request: %s", e.Output)
	}
	if e := handle("request", "\x00\x00\x00\x00ping", drivers.Call{}, h); string(e.Output) != `"ping 5s"` {
		t.Errorf("request: %s", e.Output)
	}
	handle("publish", "\x06a/b\x00on\x00off", drivers.Call{}, h)
	if len(h.published) != 1 || h.published[0] != `["a/b","on\u0000off",2,true]` {
		t.Errorf("published %q", h.published)
	}
	handle("log", "\x02"+strings.Repeat("x", 1500)+"\xff", drivers.Call{}, h)
	if len(h.logs) != 1 || h.logs[0] != "warn "+strings.Repeat("x", 1024) {
		t.Errorf("logs %q", h.logs)
	}
	state := drivers.Call{State: func() []byte { return []byte(`{"properties":{"a":1},"memory":7}`) }, Settings: []byte(`{"k":"v"}`)}
	if e := handle("state_get", "", state, h); string(e.Output) != `{"properties":{"a":1},"memory":7}` {
		t.Errorf("state_get: %s", e.Output)
	}
	for name, want := range map[string]string{"": `{"k":"v"}`, "k": `"v"`, "x": "null"} {
		if e := handle("setting", name, state, h); string(e.Output) != want {
			t.Errorf("setting %q: %s", name, e.Output)
		}
	}
	e := handle("state_set", `{"set":{"a":1,"b":null},"time":1700000000000,"quality":"bad","memory":[1]}`, state, h)
	if len(e.Changes) != 2 || e.Changes[1].Property != "b" || string(e.Changes[1].Value) != "null" ||
		e.Changes[1].Time != 1700000000000 || e.Changes[1].Quality != drivers.QualityBad || string(e.Memory) != "[1]" {
		t.Errorf("state_set: %+v", e)
	}
	if e = handle("schedule", `{"name":"t","every":5,"data":{"a":1}}`, state, h); len(e.Timers) != 1 || e.Timers[0].Every != 100*time.Millisecond ||
		string(e.Timers[0].Data) != `{"a":1}` {
		t.Errorf("schedule: %+v", e.Timers)
	}
	if e = handle("schedule", `{"name":"t","cancel":true}`, state, h); len(e.Timers) != 1 || !e.Timers[0].Cancel {
		t.Errorf("schedule: %+v", e.Timers)
	}
	if e = handle("describe", `{"title":"x"}`, state, h); string(e.Describe) != `{"title":"x"}` {
		t.Errorf("describe: %s", e.Describe)
	}
	e = handle("discover", `{"network":"mqtt","key":"topic","value":"plug","driver":"tasmota","settings":{"topic":"plug"}}`, state, h)
	if len(e.Discovered) != 1 || e.Discovered[0].Value != "plug" || string(e.Discovered[0].Settings) != `{"topic":"plug"}` {
		t.Errorf("discover: %+v", e.Discovered)
	}
}

func TestHostErrorsBecomeCodes(t *testing.T) {
	s := newSandbox(t, drivers.SandboxOptions{})
	r := load(t, s, forwarder("send", 1))
	for err, want := range map[error]int32{drivers.ErrDenied: 1, drivers.ErrTimeout: 2, context.DeadlineExceeded: 2, drivers.ErrDisconnected: 3,
		errors.New("broken pipe"): 3, drivers.ErrTooLarge: 4, drivers.ErrRateLimited: 5, drivers.ErrInvalid: 6} {
		h := &host{onSend: func(context.Context, []byte) error { return fmt.Errorf("send: %w", err) }}
		_, got := r.Handle(t.Context(), drivers.Call{Event: drivers.EventReceived, Input: []byte("x")}, h)
		var refusal *drivers.DriverError
		if !errors.As(got, &refusal) || refusal.Code != want {
			t.Errorf("%v: got %v, want -%d", err, got, want)
		}
	}
}

func TestReturnCodesOutsideOfTheContractAreCrashes(t *testing.T) {
	s := newSandbox(t, drivers.SandboxOptions{})
	tiny := func(code []byte) drivers.Runner {
		m := &wasmtest.Module{Functions: []wasmtest.Function{{Type: entry, Code: code}}, Pages: []uint32{1},
			Imports: []wasmtest.Import{{Module: "twin1", Name: "output", Type: push}},
			Exports: []wasmtest.Export{{Name: "drv_handle", Index: 1}, {Name: "memory", Kind: 2}}, Data: []byte(`{"a":}`),
			Custom: map[string][]byte{"driver.manifest": fmt.Appendf(nil, minial, "")}}
		return load(t, s, m.Bytes())
	}
	for _, c := range []struct {
		event drivers.Event
		code  []byte
		want  string
	}{
		{drivers.EventReceived, wasmtest.Const(-1), "answered pending to event 4"},
		{drivers.EventCommand, wasmtest.Const(-2), "returned -2"},
		{drivers.EventCommand, wasmtest.Code(wasmtest.Const(0), wasmtest.Const(6), wasmtest.Call(0), wasmtest.Const(0)), "no valid JSON"},
		{drivers.EventCommand, wasmtest.Code(wasmtest.Const(0), wasmtest.Const(300_000), wasmtest.Call(0), wasmtest.Const(0)), "not in the memory"},
		{drivers.EventCommand, wasmtest.Code(0x00), "unreachable"},
	} {
		h := &host{}
		_, err := tiny(c.code).Handle(t.Context(), drivers.Call{Event: c.event}, h)
		var trap *wasm.Trap
		if !errors.As(err, &trap) || !strings.Contains(trap.Reason, c.want) {
			t.Errorf("got %v, want a crash with %q", err, c.want)
		}
		if log := strings.Join(h.logs, "\n"); len(trap.Functions) > 0 &&
			(!strings.HasPrefix(log, "error "+trap.Reason+", in ") || !strings.HasSuffix(log, "$1")) {
			t.Errorf("the log says %q", log)
		}
	}
	e, err := tiny(wasmtest.Const(-1)).Handle(t.Context(), drivers.Call{Event: drivers.EventCommand}, &host{})
	if err != nil || !e.Pending {
		t.Errorf("pending: %+v, %v", e, err)
	}
}

func TestVerifyRefusesWhatIsNoDriver(t *testing.T) {
	s := newSandbox(t, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t), VerifyTimeout: 100 * time.Millisecond})
	tiny := func(manifest string, change func(m *wasmtest.Module)) []byte {
		m := &wasmtest.Module{Functions: []wasmtest.Function{{Type: entry, Code: wasmtest.Const(0)}, {Code: wasmtest.Loop()}, {Code: wasmtest.Code(0x00)}},
			Exports: []wasmtest.Export{{Name: "drv_handle"}, {Name: "memory", Kind: 2}}, Pages: []uint32{1},
			Custom: map[string][]byte{"driver.manifest": []byte(manifest)}}
		if change != nil {
			change(m)
		}
		return m.Bytes()
	}
	imports := func(name string) func(m *wasmtest.Module) {
		return func(m *wasmtest.Module) {
			m.Imports = []wasmtest.Import{{Module: "twin1", Name: name, Type: entry}}
			m.Exports[0].Index = 1
		}
	}
	good := fmt.Sprintf(minial, "")
	if m, err := s.Verify(t.Context(), tiny(good, nil)); err != nil || m.Name != "tiny" {
		t.Fatalf("a good one: %v", err)
	}
	for _, c := range []struct {
		name, want string
		file       []byte
	}{
		{"bytes", "no WASM module", []byte("\x00hello")},
		{"no manifest", "no custom section driver.manifest", tiny("", func(m *wasmtest.Module) { m.Custom = nil })},
		{"no contract", `does not export the function "drv_handle"`, tiny(good, func(m *wasmtest.Module) { m.Exports = m.Exports[1:] })},
		{"unknown capability", `imports "format_disk" from "twin1", which does not offer it`, tiny(good, imports("format_disk"))},
		{"undeclared capability", `manifest: capabilities: the module imports "send", which is not among them`, tiny(good, imports("send"))},
		{"unknown capability in the manifest", `"fly" is unknown`, tiny(fmt.Sprintf(minial, `"fly"`), nil)},
		{"memory", "the module starts with 64.0 MB; its cap is 32 MB", tiny(good, func(m *wasmtest.Module) { m.Pages = []uint32{1024} })},
		{"loops at its start", "did not end within 100ms", tiny(good, func(m *wasmtest.Module) {
			m.Exports = append(m.Exports, wasmtest.Export{Name: "_initialize", Index: 1})
		})},
		{"traps at its start", "start-up code crashed: unreachable", tiny(good, func(m *wasmtest.Module) {
			m.Exports = append(m.Exports, wasmtest.Export{Name: "_initialize", Index: 2})
		})},
		{"ill typed", "does not compile", tiny(good, func(m *wasmtest.Module) { m.Functions[0].Code = []byte{0x42, 0} })},
	} {
		if _, err := s.Verify(t.Context(), c.file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestWildDriverHurtsNobodyElse(t *testing.T) {
	s := newSandbox(t, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t), MemoryBudget: 256 << 20})
	r := load(t, s, drivertest.Build(t, filepath.Join("testdata", "wild")))
	wild := func(action, input string, limit time.Duration) (drivers.Effects, error) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return r.Handle(ctx, command(action, input), &host{})
	}
	hello := func() {
		t.Helper()
		if e, err := wild("hello", "null", 20*time.Second); err != nil || string(e.Output) != `"hello"` {
			t.Fatalf("hello: %s, %v", e.Output, err)
		}
	}
	hello()
	start := time.Now()
	if _, err := wild("spin", "null", 50*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 20*time.Second {
		t.Errorf("spin: %v after %s", err, time.Since(start))
	}
	hello()
	start = time.Now()
	if _, err := wild("sleep", "60000", 50*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 20*time.Second {
		t.Errorf("sleep: %v after %s", err, time.Since(start))
	}
	if _, err := wild("sleep", "5", 20*time.Second); err != nil {
		t.Errorf("a short sleep: %v", err)
	}
	for action, c := range map[string]struct{ input, want string }{
		"panic": {`"so be it"`, "so be it"}, "hog": {"null", "out of memory"}, "recurse": {"1", ""},
	} {
		_, err := wild(action, c.input, 20*time.Second)
		var trap *wasm.Trap
		if !errors.As(err, &trap) || !strings.Contains(trap.Reason+trap.Output, c.want) {
			t.Errorf("%s: %v\n%s\n%q", action, err, trap.Output, trap.Functions)
		}
		hello()
	}
	h := &host{}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Handle(ctx, command("spin", "null"), h); err == nil || len(h.logs) != 1 ||
		!strings.Contains(h.logs[0], "the call was stopped after") || !strings.Contains(h.logs[0], "in main.newDriver.func1") {
		t.Errorf("spin: %v; the log says %q", err, h.logs)
	}
	h = &host{}
	e, err := r.Handle(t.Context(), command("flood", "1000"), h)
	if err != nil || len(e.Events) != 64 || string(e.Output) != "936" || len(h.logs) != 64 {
		t.Errorf("flood: %d events, %s refused, %d lines, %v", len(e.Events), e.Output, len(h.logs), err)
	}
	h = &host{}
	if _, err := r.Handle(t.Context(), command("print", `"to stderr"`), h); err != nil || len(h.logs) != 1 || h.logs[0] != "debug to stderr" {
		t.Errorf("print: %q, %v", h.logs, err)
	}
	if n := s.GuestBytes(); n > 64<<20 {
		t.Errorf("%d bytes are still in use", n)
	}
}

// TestRequestsWaitInTurn: more twins wait for their devices than instances may, and others are served meanwhile.
func TestRequestsWaitInTurn(t *testing.T) {
	s := newSandbox(t, drivers.SandboxOptions{Running: 2, Waiting: 4})
	r := load(t, s, forwarder("request", 1))
	var mu sync.Mutex
	waiting, most := 0, 0
	h := &host{onRequest: func(ctx context.Context, frame []byte, _ time.Duration) ([]byte, error) {
		if string(frame) == "fast" {
			return []byte("1"), nil
		}
		mu.Lock()
		waiting++
		most = max(most, waiting)
		mu.Unlock()
		time.Sleep(20 * time.Millisecond)
		mu.Lock()
		waiting--
		mu.Unlock()
		return []byte("2"), nil
	}}
	var done sync.WaitGroup
	for range 24 {
		done.Go(func() {
			e, err := r.Handle(t.Context(), drivers.Call{Event: drivers.EventReceived, Input: []byte("\x00\x00\x00\x00slow")}, h)
			if err != nil || string(e.Output) != "2" {
				t.Errorf("slow: %s, %v", e.Output, err)
			}
		})
	}
	done.Wait()
	if most > 4 || most < 2 {
		t.Errorf("%d waited at once", most)
	}
}
