package js_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/drivertest"
)

// compile runs TypeScript's compiler, where the console's libraries are there, and gives what it complains about.
func compile(t *testing.T, files ...string) string {
	t.Helper()
	tsc, err := filepath.Abs(filepath.Join("..", "..", "web", "node_modules", ".bin", "tsc"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tsc); err != nil {
		drivertest.Missing(t, "TypeScript's compiler comes with the console's libraries: make web/node_modules/.package-lock.json")
	}
	for i := range files {
		if files[i], err = filepath.Abs(files[i]); err != nil {
			t.Fatal(err)
		}
	}
	config, err := json.Marshal(map[string]any{"files": files, "compilerOptions": map[string]any{"noEmit": true, "allowJs": true, "checkJs": true,
		"target": "es2023", "lib": []string{"es2023"}, "types": []string{}, "strict": false}})
	if err != nil {
		t.Fatal(err)
	}
	project := filepath.Join(t.TempDir(), "tsconfig.json")
	if err := os.WriteFile(project, config, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command(tsc, "--pretty", "false", "-p", project).CombinedOutput()
	return string(out)
}

// TestTypes: the example has none but good types, and mistakes are found, where they are.
func TestTypes(t *testing.T) {
	if out := compile(t, "sdk/pollux.d.ts", "../conformance/thermostat/js/thermostat.js"); out != "" {
		t.Errorf("the example:\n%s", out)
	}
	out := compile(t, "testdata/typed.js")
	source, err := os.ReadFile("testdata/typed.js")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(source), "\n") {
		found := strings.Contains(out, fmt.Sprintf("typed.js(%d,", i+1))
		if want := strings.HasSuffix(line, "// mistake"); found != want {
			t.Errorf("line %d: found %v, want %v: %s", i+1, found, want, line)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}
