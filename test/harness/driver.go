package harness

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/polluxhq/pollux/drivers/drivertest"
)

// BuildDriver compiles the Go driver in a folder of drivers/testdata and returns the packed file. Each is built once per
// test process.
func BuildDriver(t testing.TB, name string) []byte {
	t.Helper()
	return drivertest.Build(t, filepath.Join(drivertest.Root(), "drivers", "testdata", name))
}

// AddDriver builds a driver of drivers/testdata and uploads it to the node.
func (n *Node) AddDriver(name string) {
	n.t.Helper()
	file := filepath.Join(n.t.TempDir(), "driver.wasm")
	if err := os.WriteFile(file, BuildDriver(n.t, name), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.Must("driver", "push", file)
}
