package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/drivertest"
)

// TestDriverHelp holds what the commands of a driver's author say of themselves.
func TestDriverHelp(t *testing.T) {
	cmd := root(&app{out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }})
	var b strings.Builder
	for _, name := range []string{"new", "test", "build", "pack", "verify", "push", "dev", "versions", "rollout", "rollback", "logs"} {
		c, _, err := cmd.Find([]string{"driver", name})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "== %s\n%s\n\n%s\n\nExamples:\n%s\n\nFlags:\n%s\n", c.UseLine(), c.Short, c.Long, c.Example, c.LocalNonPersistentFlags().FlagUsages())
	}
	golden(t, "driver_help", []byte(b.String()))
}

// A test that fails names the line, what was expected and what there was, and the exit code says so.
func TestDriverTestReports(t *testing.T) {
	drivertest.NeedEngine(t)
	dir := filepath.Join(t.TempDir(), "lamp")
	if r := cli(t.Context(), nil, "driver", "new", "lamp", "--dir", dir); r.code != 0 {
		t.Fatal(r.err)
	}
	wrong := "tests:\n  - name: expects too much\n    steps:\n      - expect: \"POWER?\\r\\n\"\n      - send: \"POWER=ON\\r\\n\"\n      - state: {power: false}\n"
	path := filepath.Join(dir, "lamp.test.yaml")
	if err := os.WriteFile(path, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	r := cli(t.Context(), nil, "driver", "test", dir)
	if r.code != 1 {
		t.Errorf("exit code %d", r.code)
	}
	golden(t, "driver_test_fails", []byte(strings.ReplaceAll(r.out, dir+string(filepath.Separator), "")))
	if r := cli(t.Context(), nil, "driver", "test", dir, "-o", "json"); r.code != 1 || !strings.Contains(r.out, `"line": 6`) || !strings.Contains(r.out, `"failed": 1`) {
		t.Errorf("as JSON: exit code %d\n%s", r.code, r.out)
	}
	// Scripts of the directory above are those of drivers in several languages: that is said.
	if err := os.Rename(path, filepath.Join(filepath.Dir(dir), "lamp.test.yaml")); err != nil {
		t.Fatal(err)
	}
	if r := cli(t.Context(), nil, "driver", "test", dir, "-o", "json"); r.code != 1 || !strings.Contains(r.out, `"failed": 1`) ||
		!strings.Contains(r.err, dir+" has no tests of its own: these are those of "+filepath.Dir(dir)) {
		t.Errorf("with scripts of the directory above: exit code %d\n%s%s", r.code, r.out, r.err)
	}
	if err := os.WriteFile(path, []byte("tests: [{name: a, steps: [{expekt: b}]}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := cli(t.Context(), nil, "driver", "test", dir); r.code != 1 || !strings.Contains(r.err, "lamp.test.yaml:1: no step has the keys expekt") {
		t.Errorf("a wrong script: exit code %d\n%s", r.code, r.err)
	}
}

// `go test` in a project runs its scripts by the program.
func TestScriptsFromGoTest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lamp")
	if r := cli(t.Context(), nil, "driver", "new", "lamp", "--lang", "go", "--dir", dir); r.code != 0 {
		t.Fatal(r.err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "POLLUX_BIN="+self, asProgram+"=1", "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestScripts/switches_it/shuffle") {
		t.Errorf("go test: %v\n%s", err, out)
	}
}

// driver dev gives a twin each version, as one of its own, and takes the one before away.
func TestDriverDev(t *testing.T) {
	t.Setenv(asProgram, "1") // it compiles drivers in a process of its own, which is this one
	drivertest.NeedEngine(t)
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	dir := filepath.Join(t.TempDir(), "devlamp")
	if r := cli(t.Context(), nil, "driver", "new", "devlamp", "--dir", dir); r.code != 0 {
		t.Fatal(r.err)
	}
	t.Cleanup(func() {
		cli(context.Background(), env, "twin", "rm", "devlamp")
		cli(context.Background(), env, "driver", "rm", "devlamp")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	out := &printed{}
	done := make(chan int, 1)
	go func() {
		done <- runTo(ctx, out, out, env, "driver", "dev", dir, "--twin", "devlamp", "--uri", "tcp://127.0.0.1:1")
	}()
	out.wait(t, "devlamp has devlamp@0.1.0-dev.", 1)
	source := filepath.Join(dir, "devlamp.js")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(source, []byte(strings.Replace(string(text), "connected(twin) {", "connected(twin) {\n    console.warn('hello from dev');", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out.wait(t, "devlamp has devlamp@0.1.0-dev.", 2)
	if r := cli(t.Context(), env, "driver", "versions", "devlamp"); strings.Count(r.out, "-dev.") != 1 {
		t.Errorf("after two versions:\n%s", r.out)
	}
	cancel()
	<-done
}

// printed is what a command prints while it runs.
type printed struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *printed) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *printed) wait(t *testing.T, part string, times int) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		l.mu.Lock()
		text := l.text.String()
		l.mu.Unlock()
		if strings.Count(text, part) >= times {
			return
		}
		if time.Since(began) > patience {
			t.Fatalf("%q is not there %d times within %s:\n%s", part, times, patience, text)
		}
	}
}
