package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/conformance"
	"github.com/polluxhq/pollux/drivers/drivertest"
)

func TestVerifyReportsAndItsExitCode(t *testing.T) {
	drivertest.NeedEngine(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.wasm"), filepath.Join(dir, "bad.wasm")
	file := drivertest.Build(t, filepath.Join("..", "..", "drivers", "testdata", "line"))
	for path, content := range map[string][]byte{good: file, bad: file[:len(file)-100]} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("XDG_CACHE_HOME", drivertest.CacheDir(t)) // compiling takes seconds
	if r := cli(ctx, nil, "driver", "verify", good); r.code != 0 || !strings.Contains(r.out, "garbage frames") || !strings.Contains(r.out, "line 1.0.0 conforms to twin1") {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	r := cli(ctx, nil, "driver", "verify", good, "-o", "json")
	var report conformance.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || !report.Conforms || report.Driver != "line" || report.Calls < 1000 || report.Seed != conformance.DefaultSeed {
		t.Errorf("exit code %d, %v: %+v", r.code, err, report)
	}
	if r := cli(ctx, nil, "driver", "verify", good, "--seed", "20260105"); r.code != 0 || !strings.Contains(r.out, "; seed 20260105; ") {
		t.Errorf("with a seed: exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	if r := cli(ctx, nil, "driver", "verify", bad); r.code != 1 || !strings.Contains(r.out, "module") || !strings.Contains(r.err, "does not conform to twin1") {
		t.Errorf("a broken file: exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	if r := cli(ctx, nil, "driver", "verify", filepath.Join(dir, "none")); r.code != 1 {
		t.Errorf("no file: exit code %d: %s", r.code, r.err)
	}
	// Beside a driver's file a project's directory will do; what only belongs to one says so.
	project := filepath.Join(dir, "lamp")
	if r := cli(ctx, nil, "driver", "new", "lamp", "--dir", project); r.code != 0 {
		t.Fatal(r.err)
	}
	if r := cli(ctx, nil, "driver", "verify", project); r.code != 0 || !strings.Contains(r.out, "lamp 0.1.0 conforms to twin1") {
		t.Errorf("a project: exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	if r := cli(ctx, nil, "driver", "verify", dir); r.code != 1 || !strings.Contains(r.err, "has several drivers") {
		t.Errorf("a directory of several drivers: exit code %d: %s", r.code, r.err)
	}
	manifest := filepath.Join(project, "driver.json")
	if err := os.WriteFile(manifest, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := cli(ctx, nil, "driver", "verify", manifest); r.code != 1 || !strings.Contains(r.err, "is no driver, but belongs to one: pollux driver verify "+project) {
		t.Errorf("a manifest: exit code %d: %s", r.code, r.err)
	}
	if r := cli(ctx, nil, "driver", "manifest-schema"); r.code != 0 || !json.Valid([]byte(r.out)) || !strings.Contains(r.out, `"capabilities"`) {
		t.Errorf("manifest-schema: exit code %d: %.200s", r.code, r.out)
	}
}
