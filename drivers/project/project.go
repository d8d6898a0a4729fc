// Package project is a driver's source on an integrator's disk: where it is, in which language, how it is built, and what
// a new one looks like. It runs the toolchains of Go and Rust; a driver in JavaScript needs none.
package project

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/polluxhq/pollux/drivers/script"
)

// Lang is the language of a project.
type Lang string

// Languages.
const (
	JavaScript Lang = "js"
	Go         Lang = "go"
	Rust       Lang = "rust"
	// Built is a file that is a driver already.
	Built Lang = "wasm"
)

// Project is a driver's source, or its file.
type Project struct {
	Lang Lang
	// Dir is where source, manifest and scripts are.
	Dir string
	// File is the driver itself where it needs no building: a .js source, or a .wasm file.
	File string
}

// ManifestFile is the name of the manifest in projects whose source does not declare it.
const ManifestFile = "driver.json"

// Find says what is at a path: a project's directory, a driver's file, or a script of one.
func Find(path string) (*Project, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return inDir(path)
	}
	switch {
	case strings.HasSuffix(path, script.Suffix):
		return inDir(filepath.Dir(path))
	case strings.HasSuffix(path, ".js"):
		return &Project{Lang: JavaScript, Dir: filepath.Dir(path), File: path}, nil
	case strings.HasSuffix(path, ".wasm"):
		return &Project{Lang: Built, Dir: filepath.Dir(path), File: path}, nil
	}
	return nil, fmt.Errorf("%s is no driver: want a .js or .wasm file, or a project's directory", path)
}

func inDir(dir string) (*Project, error) {
	p := &Project{Dir: dir}
	switch {
	case exists(dir, "Cargo.toml"):
		p.Lang = Rust
	case exists(dir, "main.go"):
		p.Lang = Go
	default:
		return findSource(p)
	}
	if p.Lang == Go && p.Manifest() == "" {
		return nil, fmt.Errorf("%s has no %s, the driver's manifest", dir, ManifestFile)
	}
	return p, nil
}

// findSource looks for the one driver of a directory that has no toolchain.
func findSource(p *Project) (*Project, error) {
	for _, kind := range []struct {
		pattern string
		lang    Lang
	}{{"*.js", JavaScript}, {"*.wasm", Built}} {
		files, err := filepath.Glob(filepath.Join(p.Dir, kind.pattern))
		if err != nil {
			return nil, err
		}
		files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, ".test.js") || strings.HasSuffix(f, ".config.js") })
		switch len(files) {
		case 0:
			continue
		case 1:
			p.Lang, p.File = kind.lang, files[0]
			return p, nil
		}
		return nil, fmt.Errorf("%s has several drivers: %s; name one of them", p.Dir, strings.Join(files, ", "))
	}
	return nil, fmt.Errorf("%s is no driver's project: it has no .js file, no main.go and no Cargo.toml; pollux driver new makes one", p.Dir)
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// Manifest is where the manifest is: beside the source, or one directory up, where sources in several languages share it.
// Empty where there is none.
func (p *Project) Manifest() string {
	for _, dir := range []string{p.Dir, filepath.Join(p.Dir, "..")} {
		if exists(dir, ManifestFile) {
			return filepath.Join(dir, ManifestFile)
		}
	}
	return ""
}

// Scripts lists the test scripts beside the driver, or one directory up.
func (p *Project) Scripts() ([]string, error) {
	for _, dir := range []string{p.Dir, filepath.Join(p.Dir, "..")} {
		files, err := filepath.Glob(filepath.Join(dir, "*"+script.Suffix))
		if err != nil || len(files) > 0 {
			return files, err
		}
	}
	return nil, nil
}

// Tests opens the scripts. The error names the file and the line.
func (p *Project) Tests() ([]*script.File, error) {
	paths, err := p.Scripts()
	if err != nil {
		return nil, err
	}
	var files []*script.File
	for _, path := range paths {
		f, err := script.Open(path)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// ErrNoScripts says that a project has no tests.
var ErrNoScripts = errors.New("no tests")
