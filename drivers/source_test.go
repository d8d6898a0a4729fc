package drivers_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/js"
	"github.com/polluxhq/pollux/wasm"
)

// script loads the echo driver in JavaScript.
func script(tb testing.TB) (*drivers.Sandbox, drivers.Runner) {
	tb.Helper()
	drivertest.NeedEngine(tb)
	file, err := os.ReadFile("testdata/script/echo.js")
	if err != nil {
		tb.Fatal(err)
	}
	s := newSandbox(tb, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(tb), Compiler: drivertest.Compiler(tb)})
	return s, load(tb, s, file)
}

// act runs a command with a few seconds of time.
func act(tb testing.TB, r drivers.Runner, h drivers.Host, action, input string) (drivers.Effects, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
	defer cancel()
	call := command(action, input)
	call.State = func() []byte { return []byte(`{"properties":{"count":41},"memory":{"calls":41}}`) }
	call.Settings = []byte(`{"greeting":"hello "}`)
	return r.Handle(ctx, call, h)
}

func TestScriptManifest(t *testing.T) {
	_, r := script(t)
	m := r.Manifest()
	var model struct {
		Properties map[string]struct {
			Type     string
			ReadOnly bool
		}
		Actions map[string]struct{ Input json.RawMessage }
	}
	if err := json.Unmarshal(m.Model, &model); err != nil {
		t.Fatal(err)
	}
	if m.Name != "echo-js" || m.Version != "1.0.0" || !model.Properties["count"].ReadOnly || model.Properties["level"].ReadOnly ||
		m.TransportFor("tcp").Tokenizer.Delimiter != "\n" {
		t.Fatalf("manifest %+v, model %+v", m, model)
	}
	if want := `{"type":"object","properties":{"text":{"type":"string"}},"required":["text"],"additionalProperties":false}`; string(model.Actions["say"].Input) != want {
		t.Fatalf("the input of say: %s", model.Actions["say"].Input)
	}
	if !slices.Contains(m.Capabilities, "send") || slices.Contains(m.Capabilities, "publish") {
		t.Fatalf("capabilities %v", m.Capabilities)
	}
	if !strings.Contains(string(m.Settings), `"greeting":{"type":"string","default":"hi "}`) {
		t.Fatalf("settings %s", m.Settings)
	}
}

func TestScriptCommands(t *testing.T) {
	_, r := script(t)
	h := &scriptHost{}
	for _, c := range []struct{ action, input, want string }{
		{"say", `{"text":"world"}`, `{"text":"hello world"}`},
		{"count", "null", "42"},
		{"later", "null", `"answer to ask\n"`},
		{"floating", "null", `"ok"`},
		{"keep", "null", "1"},
		{"text", "null", `"grün 😀"`},
		{"fetch", "null", `[200,true,"application/json",{"body":"{\"a\":1}","method":"POST"}]`},
		{"other", `{"x":1}`, `[{"on":{"x":1}},{"on":null}]`},
	} {
		e, err := act(t, r, h, c.action, c.input)
		if err != nil || string(e.Output) != c.want {
			t.Errorf("%s: %s, %v; want %s", c.action, e.Output, err, c.want)
		}
	}
	if text := strings.Join(h.logs, "\n"); !strings.Contains(text, "error a promise that nobody awaits was rejected: Error: lost\n  at <anonymous> (echo-js.js:") {
		t.Errorf("log: %q", h.logs)
	}
	var one, two float64
	for _, into := range []*float64{&one, &two} {
		e, err := act(t, r, h, "random", "null")
		if err != nil || json.Unmarshal(e.Output, into) != nil {
			t.Fatal(err)
		}
	}
	if one == two || one < 0 || one >= 1 {
		t.Errorf("random numbers %v and %v", one, two)
	}
}

func TestScriptEffects(t *testing.T) {
	_, r := script(t)
	h := &scriptHost{}
	e, err := act(t, r, h, "count", "null")
	if err != nil || string(e.Memory) != `{"calls":42}` || len(e.Changes) != 1 || string(e.Changes[0].Value) != "42" {
		t.Fatalf("count: %+v, %v", e, err)
	}
	e, err = act(t, r, h, "report", "null")
	var got []string
	for _, c := range e.Changes {
		got = append(got, c.Property+"="+string(c.Value)+" "+c.Quality.String())
	}
	if want := "count=1 good, label=\"a\" good, level=2.5 bad, label=null good"; err != nil || strings.Join(got, ", ") != want || e.Changes[2].Time != 5 ||
		len(e.Discovered) != 1 || string(e.Describe) != `{"properties":{"label":null}}` || e.Memory != nil {
		t.Fatalf("report: %s, %+v, %v", got, e, err)
	}
	e, err = act(t, r, h, "timers", "null")
	if err != nil || len(e.Timers) != 5 || e.Timers[0].Every != 10*time.Second || string(e.Timers[0].Data) != `{"n":1}` ||
		e.Timers[1].After != 1500*time.Millisecond || e.Timers[2].At != 1e12 || e.Timers[3].Zone != "Europe/Berlin" || !e.Timers[4].Cancel {
		t.Fatalf("timers: %+v, %v", e.Timers, err)
	}
	e, err = act(t, r, h, "other", "{}")
	if err != nil || len(e.Subscriptions) != 1 || e.Subscriptions[0].System != "room-1" || e.Subscriptions[0].Property != "power" {
		t.Fatalf("subscriptions: %+v, %v", e.Subscriptions, err)
	}
}

func TestScriptWaits(t *testing.T) {
	_, r := script(t)
	h := &scriptHost{}
	e, err := r.Handle(t.Context(), drivers.Call{Event: drivers.EventCommand, Tenant: "a", Input: []byte(`{"property":"level","value":3.5}`)}, h)
	if err != nil || !e.Pending || string(e.Memory) != `{"$wait":{"step":"level","data":3.5}}` || len(h.sent) != 1 || h.sent[0] != "LEVEL 3.5\n" {
		t.Fatalf("set: %+v, %v, sent %q", e, err, h.sent)
	}
	state := func() []byte { return []byte(`{"properties":{},"memory":{"$wait":{"step":"level","data":3.5}}}`) }
	answer := drivers.Call{Event: drivers.EventAnswer, Tenant: "a", Input: []byte("noise"), State: state}
	if e, err = r.Handle(t.Context(), answer, h); err != nil || !e.Pending || e.Memory != nil || len(e.Changes) != 1 {
		t.Fatalf("noise: %+v, %v", e, err)
	}
	answer.Input = []byte("ok")
	if e, err = r.Handle(t.Context(), answer, h); err != nil || e.Pending || string(e.Memory) != "{}" || string(e.Changes[0].Value) != "3.5" {
		t.Fatalf("answer: %+v, %v", e, err)
	}
}

func TestScriptEvents(t *testing.T) {
	_, r := script(t)
	h := &scriptHost{}
	e, err := r.Handle(t.Context(), drivers.Call{Event: drivers.EventReceived, Tenant: "a", Input: []byte("grün \xff")}, h)
	if err != nil || len(e.Changes) != 1 || string(e.Changes[0].Value) != "\"grün \uFFFD\"" || e.Output != nil {
		t.Fatalf("received: %+v, %v", e, err)
	}
	e, err = r.Handle(t.Context(), drivers.Call{Event: drivers.EventTimer, Tenant: "a", Input: []byte(`{"name":"tick","data":{"n":5}}`)}, h)
	if err != nil || string(e.Changes[0].Value) != "5" {
		t.Fatalf("timer: %+v, %v", e, err)
	}
	e, err = r.Handle(t.Context(), drivers.Call{Event: drivers.EventWebhook, Tenant: "a", Input: []byte(`{"method":"GET","path":"/x","query":{},"headers":{}}`)}, h)
	if err != nil || string(e.Output) != `{"status":201,"body":"{\"path\":\"/x\"}","headers":{"content-type":"application/json"}}` &&
		string(e.Output) != `{"status":201,"headers":{"content-type":"application/json"},"body":"{\"path\":\"/x\"}"}` {
		t.Fatalf("webhook: %s, %v", e.Output, err)
	}
	for _, event := range []drivers.Event{1, 2, 3, 7, 8, 9, 12, 77} {
		if _, err := r.Handle(t.Context(), drivers.Call{Event: event, Tenant: "a", Input: []byte(`{}`)}, h); err != nil {
			t.Errorf("event %d: %v", event, err)
		}
	}
}

// TestScriptErrors: what an author throws is refused, a mistake is a crash; the log has file and line of both.
func TestScriptErrors(t *testing.T) {
	_, r := script(t)
	source, err := os.ReadFile("testdata/script/echo.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		action, want, log string
		line              string
		code              int32 // 0: a crash
	}{
		{action: "refuse", want: "no way", code: 7},
		{action: "error", want: "went wrong", log: "error Error: went wrong\n  at error (echo-js.js:", line: "throw new Error('went wrong')", code: 1},
		{action: "bug", want: "cannot read property 'at' of undefined (echo-js.js:", log: "TypeError: cannot read property 'at' of undefined\n  at bug (echo-js.js:", line: "nothing.at.all"},
		{action: "bugLater", want: "ReferenceError: missing is not defined (echo-js.js:", log: "ReferenceError: missing is not defined\n  at bugLater (echo-js.js:", line: "return missing;"},
		{action: "never", want: "awaits what never comes", log: "error TypeError: the handler awaits"},
		{action: "deep", want: "RangeError: Maximum call stack size exceeded", log: "error RangeError", line: "const f = (n) => f(n + 1)"},
		{action: "publish", want: "publish a/b: denied", log: "error CapabilityError: publish a/b: denied\n  at publish (echo-js.js:", line: "twin.publish('a/b', 'x')", code: 1},
	} {
		t.Run(c.action, func(t *testing.T) {
			h := &scriptHost{}
			_, err := act(t, r, h, c.action, "null")
			var refusal *drivers.DriverError
			var trap *wasm.Trap
			switch {
			case c.code > 0:
				if !errors.As(err, &refusal) || refusal.Code != c.code || refusal.Message != c.want {
					t.Fatalf("error %v", err)
				}
			case !errors.As(err, &trap) || !strings.Contains(err.Error(), c.want):
				t.Fatalf("error %v", err)
			}
			log := strings.Join(h.logs, "\n")
			if !strings.Contains(log, c.log) {
				t.Fatalf("log %q", log)
			}
			if _, rest, ok := strings.Cut(log, "(echo-js.js:"); ok != (c.line != "") || ok && !namesLine(string(source), rest, c.line) {
				t.Fatalf("the log names another line: %s", log)
			}
		})
	}
}

// lineOf is the first line that holds text, from 1 on.
func lineOf(source, text string) int {
	before, _, _ := strings.Cut(source, text)
	return strings.Count(before, "\n") + 1
}

// namesLine says whether the place, LINE:COLUMN…, is a line that holds text.
func namesLine(source, place, text string) bool {
	number, _, _ := strings.Cut(place, ":")
	for i, line := range strings.Split(source, "\n") {
		if strings.Contains(line, text) {
			want, _ := json.Marshal(i + 1)
			return string(want) == number
		}
	}
	return false
}

// TestScriptLoops: a loop that does not end is stopped, also where the script catches what it can, and the log says where.
func TestScriptLoops(t *testing.T) {
	_, r := script(t)
	source, err := os.ReadFile("testdata/script/echo.js")
	if err != nil {
		t.Fatal(err)
	}
	// The place is in the loop, or where it begins.
	for _, c := range []struct{ action, in, from, to string }{
		{"loop", ", in loop (echo-js.js:", "loop() { for (;;); }", "loop() { for (;;); }"},
		{"loopLate", ", in spin (echo-js.js:", "const spin", "// in an arrow"},
		{"loopAwaited", ", in loopAwaited (echo-js.js:", "async loopAwaited", "// after an answer"},
		{"loopCaught", ", in loopCaught (echo-js.js:", "loopCaught() {", "// caught"},
		{"loopPattern", ", in loopPattern (echo-js.js:", "// a pattern", "// a pattern"},
	} {
		t.Run(c.action, func(t *testing.T) {
			var log string
			var err error
			// A busy machine may leave the engine no time between its question and the end.
			for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && !strings.Contains(log, c.in); {
				h := &scriptHost{}
				began := time.Now()
				_, err = r.Handle(lazyDeadline{t.Context(), began.Add(300 * time.Millisecond)}, command(c.action, "null"), h)
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "the call was stopped after") {
					t.Fatalf("error %v", err)
				}
				if took := time.Since(began); took < 300*time.Millisecond {
					t.Fatalf("it was stopped after %s", took)
				}
				log = strings.Join(h.logs, "\n")
			}
			_, place, _ := strings.Cut(log, c.in)
			number, _, _ := strings.Cut(place, ":")
			if at, err := strconv.Atoi(number); err != nil || at < lineOf(string(source), c.from) || at > lineOf(string(source), c.to) {
				t.Errorf("the log names another place: %s", log)
			}
			if got := drivers.StoppedIn(err); !strings.HasPrefix(c.in, ", in "+strings.SplitN(got, ":", 2)[0]) {
				t.Errorf("stopped in %q", got)
			}
		})
	}
	if e, err := act(t, r, &scriptHost{}, "say", `{"text":"again"}`); err != nil || string(e.Output) != `{"text":"hello again"}` {
		t.Fatalf("after it: %s, %v", e.Output, err)
	}
}

func TestScriptIsBounded(t *testing.T) {
	s, r := script(t)
	before := s.GuestBytes()
	if _, err := act(t, r, &scriptHost{}, "eat", "null"); err == nil || s.GuestBytes()-before > drivers.DefaultMemoryMB<<20 {
		t.Fatalf("eat: %v, %d bytes", err, s.GuestBytes()-before)
	}
	if e, err := act(t, r, &scriptHost{}, "say", `{"text":"again"}`); err != nil || string(e.Output) != `{"text":"hello again"}` {
		t.Fatalf("after it: %s, %v", e.Output, err)
	}
}

// TestScriptRefused: mistakes in a file are told at its upload, with their place.
func TestScriptRefused(t *testing.T) {
	drivertest.NeedEngine(t)
	s := newSandbox(t, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t), VerifyTimeout: 2 * time.Second})
	for _, c := range []struct{ name, source, want string }{
		{"syntax", "export default driver({\n  name: 'lamp',\n  version: = 3 })", "lamp.js:3:12: SyntaxError: unexpected token in expression: '='"},
		{"reference", "const a = 1;\nnope();", "driver.js:2:1: ReferenceError: nope is not defined"},
		{"nothing", "const a = 1;", "driver.js: the file does not say `export default driver({ … })`"},
		{"unknown field", "export default driver({\n name: 'lamp', version: '1.0.0',\n  action: {} })", "lamp.js:1:15: driver: action: is unknown; did you mean actions?"},
		{"no function", "export default driver({ name: 'lamp', version: '1.0.0', received: 3 })", "lamp.js:1:15: driver: received: is to be a function, and is 3"},
		{"version", "export default driver({ name: 'lamp', version: '1' })", `lamp.js: manifest: version: "1" is no semantic version such as 1.2.0`},
		{"schema", "export default driver({ name: 'lamp', version: '1.0.0', properties: { a: 'colour' } })", "lamp.js: manifest: model"},
		{"loop", "const a = 1; for (;;) Math.abs(a);", "driver.js:1:"},
		{"loop after a wait", "await null;\nconst f = () => { while (true) Math.abs(1); };\nf();", "driver.js: the file's own code did not end within 2s"},
		{"import", "import x from 'fs';", "driver.js"},
		{"in no call", "export default driver({ name: 'lamp', version: '1.0.0' });\nsetTimeout(() => {}, 5)", "lamp.js:2:1: TypeError: setTimeout is not there"},
		{"capability", "export default driver({ name: 'lamp', version: '1.0.0', capabilities: ['fly'] })", `lamp.js: manifest: capabilities`},
		{"large", "//" + strings.Repeat("x", js.MaxSource), "driver.js: the file has 1048578 bytes, more than 1048576"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.Verify(t.Context(), []byte(c.source))
			var wrong *js.SourceError
			if !errors.As(err, &wrong) || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("%v; want %s", err, c.want)
			}
		})
	}
}

// scriptHost answers requests, HTTP and other twins.
type scriptHost struct{ host }

func (*scriptHost) Request(_ context.Context, frame []byte, _ time.Duration) ([]byte, error) {
	return append([]byte("answer to "), frame...), nil
}

func (*scriptHost) HTTP(_ context.Context, request drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	body, err := json.Marshal(map[string]string{"method": request.Method, "body": string(request.Body)})
	return drivers.HTTPResponse{Status: 200, Headers: map[string][]string{"Content-Type": {"application/json"}}, Body: body}, err
}

func (*scriptHost) Call(_ context.Context, call drivers.TwinCall) (drivers.TwinAnswer, error) {
	input := call.Input
	if input == nil {
		input = json.RawMessage("null")
	}
	return drivers.TwinAnswer{Output: json.RawMessage(`{"on":` + string(input) + `}`)}, nil
}
