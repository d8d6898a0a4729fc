package project_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/project"
)

// TestRunOfALogicInRust: run is given the message with its context and what it remembers, and its verdict is the call's output: as OnRun of the SDK in Go.
func TestRunOfALogicInRust(t *testing.T) {
	drivertest.NeedRust(t)
	dir := filepath.Join(t.TempDir(), "counter")
	if _, err := project.New(dir, "counter", project.Rust); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join("testdata", "logic.rs"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "src", "lib.rs"), source, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := project.Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	file, err := p.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := sandbox(t).Load(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if k := r.Manifest().Kind; k != drivers.KindLogic {
		t.Errorf("it is of kind %q", k)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l, memory := &logs{}, `{"twin":{"seen":6},"script":{"seen":9}}`
	run := func(message, about string) (drivers.Effects, error) {
		return r.Handle(ctx, drivers.Call{Event: drivers.EventRun, Tenant: "a", Input: []byte(`{"message":` + message + `,"context":` + about + `}`),
			State: func() []byte { return []byte(`{"memory":` + memory + `,"properties":{}}`) }}, l)
	}
	const about = `{"twin":"default/a","by":"topic/default/t","time":5,"id":"x","key":"k","attempt":2,"headers":{"h":"v"}}`
	for message, want := range map[string]string{`{"value":1}`: "null", `{"value":2}`: `{"stop":true}`, `{"value":7}`: `{"replace":{"seen":7}}`, `5`: `{"replace":{"seen":7}}`} {
		eff, err := run(message, about)
		if err != nil || string(eff.Output) != want {
			t.Errorf("of %s it says %s, want %s: %v", message, eff.Output, want, err)
		}
		if string(eff.Memory) != `{"twin":{"seen":7},"script":{"seen":10}}` {
			t.Errorf("of %s it remembers %s", message, eff.Memory)
		}
	}
	var refusal *drivers.DriverError
	if _, err := run(`{"value":3}`, about); !errors.As(err, &refusal) || refusal.Code != 9 || refusal.Message != "not three" || refusal.Retryable || refusal.After != 0 {
		t.Errorf("it refuses by %v", err)
	}
	if _, err := run(`{"value":4}`, about); !errors.As(err, &refusal) || !refusal.Retryable || refusal.After != 1500*time.Millisecond {
		t.Errorf("it asks for later by %+v", refusal)
	}
	if _, err := run(`1`, `5`); !errors.As(err, &refusal) {
		t.Errorf("a context that is none is taken: %v", err)
	}
	if got := strings.Join(l.lines, "\n"); !strings.Contains(got, `info default/a topic/default/t 5 x k 2 [("h", "v")]`) {
		t.Errorf("it was told of %s", got)
	}
}
