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
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || !report.Conforms || report.Driver != "line" || report.Calls < 1000 {
		t.Errorf("exit code %d, %v: %+v", r.code, err, report)
	}
	if r := cli(ctx, nil, "driver", "verify", bad); r.code != 1 || !strings.Contains(r.out, "module") || !strings.Contains(r.err, "does not conform to twin1") {
		t.Errorf("a broken file: exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	if r := cli(ctx, nil, "driver", "verify", filepath.Join(dir, "none")); r.code != 1 {
		t.Errorf("no file: exit code %d: %s", r.code, r.err)
	}
	if r := cli(ctx, nil, "driver", "manifest-schema"); r.code != 0 || !json.Valid([]byte(r.out)) || !strings.Contains(r.out, `"capabilities"`) {
		t.Errorf("manifest-schema: exit code %d: %.200s", r.code, r.out)
	}
}
