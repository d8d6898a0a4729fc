// Package library_test looks at what belongs to each driver beside its code. That it conforms is tested in drivers/conformance,
// its scripts in package test, and how it speaks with its simulator or a real device's program beside it.
package library_test

import (
	"os"
	"path/filepath"
	"testing"
)

func TestEachDriverHasItsPageAndScript(t *testing.T) {
	all, err := os.ReadDir(".")
	if err != nil || len(all) < 10 {
		t.Fatal(all, err)
	}
	for _, dir := range all {
		for _, file := range []string{"README.md", dir.Name() + ".test.yaml"} {
			if _, err := os.Stat(filepath.Join(dir.Name(), file)); dir.IsDir() && err != nil {
				t.Error(err)
			}
		}
	}
}
