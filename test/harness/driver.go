package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var (
	builtMu sync.Mutex
	built   = map[string][]byte{}
)

// BuildDriver compiles a driver in Go, a folder of this module such as drivers/testdata/echo with its driver.json, and
// returns the packed file. Each is built once per test process.
func BuildDriver(t testing.TB, dir string) []byte {
	t.Helper()
	builtMu.Lock()
	defer builtMu.Unlock()
	if file, ok := built[dir]; ok {
		return file
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatalf("find the module: %v", err)
	}
	out := t.TempDir()
	run := func(env []string, args ...string) {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = strings.TrimSpace(string(root))
		cmd.Env = append(cmd.Environ(), env...)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, text)
		}
	}
	guest, packed := filepath.Join(out, "guest.wasm"), filepath.Join(out, "driver.wasm")
	run([]string{"GOOS=wasip1", "GOARCH=wasm"}, "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", guest, "./"+dir)
	run(nil, "run", "./drivers/sdk/pack", "-manifest", filepath.Join(dir, "driver.json"), "-o", packed, guest)
	file, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	built[dir] = file
	return file
}

// AddDriver builds a driver and uploads it to the node.
func (n *Node) AddDriver(dir string) {
	n.t.Helper()
	file := filepath.Join(n.t.TempDir(), "driver.wasm")
	if err := os.WriteFile(file, BuildDriver(n.t, dir), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.Must("driver", "push", file)
}
