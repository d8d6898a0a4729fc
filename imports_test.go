package pollux

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/polluxhq/pollux"

// allowed lists what each top-level package (with all below it) may import of ours: the one direction of DESIGN.md
// section 3. The root package, cmd and test may import everything.
var allowed = map[string][]string{
	"proto":   {},
	"wasm":    {},
	"storage": {"proto"},
	"cluster": {"proto"},
	"web":     {},
	"drivers": {"proto", "wasm", "storage", "cluster"},
	"actors":  {"proto", "wasm", "storage", "cluster", "drivers"},
	"rpc":     {"proto", "wasm", "storage", "cluster", "drivers", "actors", "web"},
	"":        {"proto", "wasm", "storage", "cluster", "drivers", "actors", "rpc", "web"},
	"cmd":     {"proto", "wasm", "storage", "cluster", "drivers", "actors", "rpc", "web", "", "test"},
	"test":    {"proto", "wasm", "storage", "cluster", "drivers", "actors", "rpc", "web", ""},
}

func TestImportDirection(t *testing.T) {
	for _, p := range listPackages(t) {
		from := top(p.ImportPath)
		may, known := allowed[from]
		if !known {
			t.Errorf("%s: the layout of DESIGN.md has no place %q", p.ImportPath, from)
			continue
		}
		for _, imported := range p.Imports {
			if imported != module && !strings.HasPrefix(imported, module+"/") {
				continue
			}
			if to := top(imported); to != from && !slices.Contains(may, to) {
				t.Errorf("%s imports %s: %q may import only %q", p.ImportPath, imported, from, may)
			}
		}
	}
}

func TestTopLevelOfPackages(t *testing.T) {
	for path, want := range map[string]string{module: "", module + "/rpc": "rpc", module + "/drivers/mqtt": "drivers"} {
		if got := top(path); got != want {
			t.Errorf("top(%s) = %q, want %q", path, got, want)
		}
	}
}

// top gives the first folder of a package's path, "" for the root package.
func top(path string) string {
	rest := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
	first, _, _ := strings.Cut(rest, "/")
	return first
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// listPackages asks go list, for the host and for the guests' target.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	var all []goPackage
	for _, target := range [][]string{nil, {"GOOS=wasip1", "GOARCH=wasm"}} {
		cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
		cmd.Env = append(cmd.Environ(), target...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
			var p goPackage
			if err := dec.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages", len(all))
	}
	return all
}
