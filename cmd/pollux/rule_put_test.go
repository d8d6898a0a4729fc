package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A rule or a schedule that somebody paused does not act because it is put anew, unless that is said; a file for apply says all that it is.
func TestPutLeavesPaused(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	do := func(args ...string) string {
		t.Helper()
		r := cli(t.Context(), env, args...)
		if r.code != 0 {
			t.Fatalf("%v: [%d] %s%s", args, r.code, r.out, r.err)
		}
		return r.out
	}
	for kind, put := range map[string][]string{
		"rule":     {"rule", "put", "rests", "--on-webhook", "a-secret-of-16-characters", "--mqtt", "a/b=c"},
		"schedule": {"schedule", "put", "rests", "--every", "24h", "--mqtt", "a/b=c"},
	} {
		paused := func() bool { return strings.Contains(do(kind, "get", "rests", "-o", "json"), `"paused": true`) }
		t.Cleanup(func() { cli(context.WithoutCancel(t.Context()), env, kind, "rm", "rests") })
		do(put...)
		if paused() {
			t.Errorf("a new %s is paused", kind)
		}
		do(kind, "pause", "rests")
		if out := do(put...); !paused() || !strings.Contains(out, "and paused; to have it go on: pollux "+kind+" resume rests") {
			t.Errorf("%s put: paused %t: %s", kind, paused(), out)
		}
		if out := do(append(put, "--paused=false")...); paused() || strings.Contains(out, "paused") {
			t.Errorf("%s put --paused=false: paused %t: %s", kind, paused(), out)
		}
		do(append(put, "--paused")...)
		file := filepath.Join(t.TempDir(), "r.yaml")
		text := do(kind, "get", "rests", "-o", "yaml")
		if !paused() || !strings.Contains(text, "paused: true") {
			t.Fatalf("%s put --paused: %s", kind, text)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(text, "paused: true", "", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := do("apply", "--dry-run", "-f", file); !strings.Contains(out, "paused: true -> –") || !paused() {
			t.Errorf("apply of a %s would be: %s", kind, out)
		}
		if do("apply", "-f", file); paused() {
			t.Errorf("a %s whose file does not say paused is paused", kind)
		}
	}
}
