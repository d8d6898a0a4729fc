package catalog

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/polluxhq/pollux/drivers"
)

func TestCatalogHoldsDrivers(t *testing.T) {
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	names := Names()
	if len(list) != len(names) {
		t.Fatalf("%d manifests of %d files", len(list), len(names))
	}
	for i, m := range list {
		if m.Name != names[i] {
			t.Errorf("file %s holds driver %s", names[i], m.Name)
		}
		file, err := Open(m.Name)
		if err != nil {
			t.Fatal(err)
		}
		if drivers.IsSource(file) {
			continue // the library's own tests run it
		}
		if _, err := drivers.Check(file); err != nil {
			t.Errorf("driver %s: %v", m.Name, err)
		}
	}
}

func TestCatalogNamesWhatIsMissing(t *testing.T) {
	for _, name := range []string{"no-such-driver", "../catalog", ""} {
		if _, err := Open(name); !errors.Is(err, ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %q: %v", name, err)
		}
	}
}
