// Package library_test looks at what belongs to each driver beside its code. That it conforms is tested in drivers/conformance,
// its scripts in package test, and how it speaks with its simulator or a real device's program beside it.
package library_test

import (
	"os"
	"path/filepath"
	"testing"
)

func TestEachDriverHasItsPageScriptAndSimulator(t *testing.T) {
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
	for _, dir := range dirs {
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
