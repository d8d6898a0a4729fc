package drivers_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
)

// host plays the twin of a running call.
type host struct {
	drivers.Denied
	mu        sync.Mutex
	sent      []string
	published []string
	logs      []string
	onSend    func(ctx context.Context, frame []byte) error
	onRequest func(ctx context.Context, frame []byte, timeout time.Duration) ([]byte, error)
}

func (h *host) Send(ctx context.Context, frame []byte) error {
	if h.onSend != nil {
		return h.onSend(ctx, frame)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent = append(h.sent, string(frame))
	return nil
}

func (h *host) Request(ctx context.Context, frame []byte, timeout time.Duration) ([]byte, error) {
	if h.onRequest != nil {
		return h.onRequest(ctx, frame, timeout)
	}
	return nil, drivers.ErrTimeout
}

func (h *host) Publish(_ context.Context, topic string, payload []byte, qos byte, retain bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	text, _ := json.Marshal([]any{topic, string(payload), qos, retain})
	h.published = append(h.published, string(text))
	return nil
}

func (h *host) Log(level, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.logs = append(h.logs, level+" "+text)
}

func newSandbox(tb testing.TB, o drivers.SandboxOptions) *drivers.Sandbox {
	tb.Helper()
	s, err := drivers.NewSandbox(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func load(tb testing.TB, s *drivers.Sandbox, file []byte) drivers.Runner {
	tb.Helper()
	r, err := s.Load(context.Background(), file)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.Close() })
	return r
}

func command(action, input string) drivers.Call {
	return drivers.Call{Event: drivers.EventCommand, Tenant: "default",
		Input: []byte(`{"action":"` + action + `","input":` + input + `}`)}
}

func TestEchoDriver(t *testing.T) {
	s := newSandbox(t, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t)})
	file := drivertest.Echo(t)
	m, err := s.Verify(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "echo" || m.Version != "1.0.0" {
		t.Fatalf("manifest %+v", m)
	}
	r := load(t, s, file)
	h := &host{}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	call := command("say", `{"text":"world"}`)
	call.Settings = []byte(`{"greeting":"hello ","topic":"x"}`)
	e, err := r.Handle(ctx, call, h)
	if err != nil || string(e.Output) != `{"text":"hello world"}` {
		t.Fatalf("say: %s, %v", e.Output, err)
	}

	call = command("count", "null")
	call.State = func() []byte { return []byte(`{"properties":{"count":41},"memory":{"calls":41}}`) }
	e, err = r.Handle(ctx, call, h)
	if err != nil || string(e.Output) != "42" || string(e.Memory) != `{"calls":42}` || len(e.Changes) != 1 ||
		e.Changes[0].Property != "count" || string(e.Changes[0].Value) != "42" || e.Changes[0].Quality != drivers.QualityGood {
		t.Fatalf("count: %+v, %v", e, err)
	}

	_, err = r.Handle(ctx, command("fail", `{"text":"no way"}`), h)
	var refusal *drivers.DriverError
	if !errors.As(err, &refusal) || refusal.Code != 1 || refusal.Message != "no way" || refusal.Retryable {
		t.Fatalf("fail: %v", err)
	}

	e, err = r.Handle(ctx, command("ask", `{"text":"?"}`), h)
	if err != nil || !e.Pending || len(h.sent) != 1 || h.sent[0] != "?" {
		t.Fatalf("ask: %+v, %v, sent %q", e, err, h.sent)
	}
	e, err = r.Handle(ctx, drivers.Call{Event: drivers.EventAnswer, Tenant: "default", Input: []byte("wait")}, h)
	if err != nil || !e.Pending {
		t.Fatalf("answer: %+v, %v", e, err)
	}
	e, err = r.Handle(ctx, drivers.Call{Event: drivers.EventAnswer, Tenant: "default", Input: []byte("7")}, h)
	if err != nil || e.Pending || string(e.Output) != `{"text":"7"}` {
		t.Fatalf("answer: %+v, %v", e, err)
	}

	e, err = r.Handle(ctx, drivers.Call{Event: drivers.EventReceived, Tenant: "default",
		Input: []byte("echo/x/set\x00{\"level\":3.5,\"on\":true,\"label\":\"a\\\"b\"}")}, h)
	if err != nil || len(e.Changes) != 3 || string(e.Changes[2].Value) != `"a\"b"` || e.Memory != nil || e.Output != nil {
		t.Fatalf("received: %+v, %v", e, err)
	}

	e, err = r.Handle(ctx, command("tick", `{"after_ms":1500}`), h)
	if err != nil || len(e.Timers) != 1 || e.Timers[0].Name != "tick" || e.Timers[0].After != 1500*time.Millisecond {
		t.Fatalf("tick: %+v, %v", e, err)
	}
	e, err = r.Handle(ctx, drivers.Call{Event: drivers.EventTimer, Tenant: "default", Input: []byte(`{"name":"tick","data":"tock"}`)}, h)
	if err != nil || len(e.Events) != 1 || e.Events[0].Name != "ticked" || string(e.Events[0].Data) != `"tock"` {
		t.Fatalf("timer: %+v, %v", e, err)
	}
	if _, err = r.Handle(ctx, command("nope", "null"), h); err == nil || !strings.Contains(err.Error(), "no action nope") {
		t.Fatalf("nope: %v", err)
	}
}
