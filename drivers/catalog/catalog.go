// Package catalog holds the drivers that come with the program, compressed. They are put there by the build
// (drivers/catalog/pack); a program built without that step has an empty catalog.
package catalog

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/polluxhq/pollux/drivers"
)

//go:embed dist
var dist embed.FS

const (
	dir = "dist"
	// A module holds its manifest; that of a JavaScript source lies beside it, since reading it means to run the source.
	moduleSuffix   = ".wasm.zst"
	sourceSuffix   = ".js.zst"
	manifestSuffix = ".manifest.json"
	// maxFile bounds a driver's bytes when it is unpacked.
	maxFile = 32 << 20
)

// ErrNotFound is the error of a driver that is not in the catalog. It is fs.ErrNotExist, too.
var ErrNotFound error = notFound{}

type notFound struct{}

func (notFound) Error() string        { return "not in the catalog" }
func (notFound) Is(target error) bool { return target == fs.ErrNotExist }

// Names returns the names of the drivers, sorted.
func Names() []string {
	entries, err := dist.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		for _, suffix := range []string{moduleSuffix, sourceSuffix} {
			if name, ok := strings.CutSuffix(e.Name(), suffix); ok {
				names = append(names, name)
			}
		}
	}
	sort.Strings(names)
	return names
}

// List reads the manifests of all drivers, sorted by name. It unpacks each: a few milliseconds.
func List() ([]*drivers.Manifest, error) {
	var list []*drivers.Manifest
	for _, name := range Names() {
		text, err := Manifest(name)
		if err != nil {
			return nil, err
		}
		m, err := drivers.ParseManifest(text)
		if err != nil {
			return nil, fmt.Errorf("catalog %s: %w", name, err)
		}
		list = append(list, m)
	}
	return list, nil
}

// Manifest returns a driver's manifest, JSON. Errors: ErrNotFound.
func Manifest(name string) ([]byte, error) {
	if text, err := dist.ReadFile(path.Join(dir, name+manifestSuffix)); err == nil {
		return text, nil
	}
	file, err := Open(name)
	if err != nil {
		return nil, err
	}
	text, err := drivers.ReadManifest(file)
	if err != nil {
		return nil, fmt.Errorf("catalog %s: %w", name, err)
	}
	return text, nil
}

// Open returns a driver's file, ready to be uploaded. Errors: ErrNotFound.
func Open(name string) ([]byte, error) {
	packed, err := dist.ReadFile(path.Join(dir, name+moduleSuffix))
	if err != nil {
		packed, err = dist.ReadFile(path.Join(dir, name+sourceSuffix))
	}
	if err != nil {
		return nil, fmt.Errorf("catalog %s: %w", name, ErrNotFound)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxFile), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("catalog %s: %w", name, err)
	}
	defer dec.Close()
	file, err := dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("catalog %s: %w", name, err)
	}
	return file, nil
}
