package wasm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestCompilerLetsOthersRunFirst: all threads of the child have a lower priority.
func TestCompilerLetsOthersRunFirst(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, t.TempDir(), "20s")
	cmd.Env = []string{compilerEnv}
	in, err := cmd.StdinPipe() // it waits for its module
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = cmd.Wait()
	}()
	lowered := func() bool {
		stats, _ := filepath.Glob("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/task/*/stat")
		for _, path := range stats {
			text, err := os.ReadFile(path)
			if err != nil {
				return false
			}
			_, rest, _ := strings.Cut(string(text), ") ") // the fields behind the name, of which the 17th is the priority
			fields := strings.Fields(rest)
			if nice, err := strconv.Atoi(fields[16]); err != nil || nice < 5 {
				return false
			}
		}
		return len(stats) > 0
	}
	for end := time.Now().Add(30 * time.Second); !lowered(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the compiler has the priority of the calls")
		}
	}
}
