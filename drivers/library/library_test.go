// Package library_test looks at what belongs to each driver beside its code. That it conforms is tested in drivers/conformance,
// its scripts in package test, and how it speaks with its simulator or a real device's program beside it.
package library_test

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dirs are the folders of the drivers.
func dirs(t *testing.T) []string {
	t.Helper()
	all, err := os.ReadDir(".")
	if err != nil || len(all) < 10 {
		t.Fatal(all, err)
	}
	dirs := []string{filepath.Join("..", "pjlink"), filepath.Join("..", "tasmota")}
	for _, dir := range all {
		if dir.IsDir() {
			dirs = append(dirs, dir.Name())
		}
	}
	return dirs
}

// A driver and its simulator read the protocol's document each for itself: the simulator may use what is in peer, the driver what is
// in an SDK, and neither the other.
func TestDriverAndSimulatorShareNoCode(t *testing.T) {
	const ours = "github.com/polluxhq/pollux/"
	imports := func(pattern string) (all []string) {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range f.Imports {
				if path := strings.Trim(i.Path.Value, `"`); strings.HasPrefix(path, ours) {
					all = append(all, strings.TrimPrefix(path, ours))
				}
			}
		}
		return all
	}
	simulators := 0
	for _, dir := range dirs(t) {
		for _, path := range imports(filepath.Join(dir, "*.go")) {
			if !strings.HasPrefix(path, "drivers/sdk/") {
				t.Errorf("the driver %s imports %s", dir, path)
			}
		}
		sim := imports(filepath.Join(dir, "sim", "*.go"))
		simulators += min(len(sim), 1)
		for _, path := range sim {
			if path != "drivers/peer" && !strings.HasPrefix(path, "drivers/peer/") && !strings.HasSuffix(path, "/sim") {
				t.Errorf("the simulator of %s imports %s", dir, path)
			}
		}
	}
	if simulators < 10 {
		t.Errorf("looked at %d simulators", simulators)
	}
}

// The library is in all three languages: who writes the first driver finds some to read.
func TestLanguages(t *testing.T) {
	count := map[string]int{}
	for _, dir := range dirs(t) {
		for file, language := range map[string]string{filepath.Base(dir) + ".js": "JavaScript", "main.go": "Go", "Cargo.toml": "Rust"} {
			if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
				count[language]++
			}
		}
	}
	if count["JavaScript"] < 5 || count["Go"] < 3 || count["Rust"] < 3 {
		t.Errorf("drivers by language: %v", count)
	}
}

func TestEachDriverHasItsPageScriptAndSimulator(t *testing.T) {
	for _, dir := range dirs(t) {
		needs := []string{"README.md", filepath.Base(dir) + ".test.yaml", filepath.Join("sim", "sim.go")}
		if dir == "mysensors-node" { // its nodes are the simulated gateway's
			needs[2] = filepath.Join("..", "mysensors", needs[2])
		}
		for _, file := range needs {
			if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
				t.Error(err)
			}
		}
	}
}
