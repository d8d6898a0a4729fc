package bench_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/actors/bench"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/script"
)

func open(t *testing.T, file []byte, shuffle bool) *bench.Bench {
	t.Helper()
	b, err := bench.Open(t.Context(), bench.Options{File: file, CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t), Shuffle: shuffle})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// run runs all tests of a script.
func run(t *testing.T, b *bench.Bench, text string) []*bench.Result {
	t.Helper()
	f, err := script.Parse("x.test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var all []*bench.Result
	for i := range f.Tests {
		r := b.Run(t.Context(), f, &f.Tests[i])
		all = append(all, r)
		t.Logf("%s took %s", r.Test, r.Took)
	}
	return all
}

func passes(t *testing.T, all []*bench.Result) {
	t.Helper()
	for _, r := range all {
		if r.Failure != nil {
			var b strings.Builder
			r.Write(&b)
			t.Error("\n" + b.String())
		}
	}
}

func TestThermostat(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "thermostat.test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("..", "..", "drivers", "conformance", "thermostat")
	file := drivertest.BuildWith(t, filepath.Join(dir, "go"), filepath.Join(dir, "driver.json"))
	passes(t, run(t, open(t, file, false), string(text)))
}
