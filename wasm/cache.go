package wasm

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// cacheBytes: some 80 versions of a driver in Go, of 12 MB each, or hundreds of others.
	cacheBytes = 1 << 30
	// stageAge is how long nobody works in a stage any more: longer than a compilation may take.
	stageAge = time.Hour
	// marked begins the name of a mark, staged that of a stage; engineDirs is where wazero puts code, by its version.
	marked, staged, engineDirs = "compiled-", "new-", "wazero-*"
)

// codeCache is the directory of compiled code. Beside wazero's files, whose names only wazero knows, it has a mark for each
// module that a child compiled: compiled-DIGEST, which names the file. A file's time of change is when it was last used.
// Several processes may share the directory.
type codeCache struct {
	dir   string
	limit int64
	stats *stats
	mu    sync.Mutex
}

func (c *codeCache) mark(module []byte) string {
	return filepath.Join(c.dir, fmt.Sprintf("%s%x", marked, sha256.Sum256(module)))
}

// has says whether a child compiled a module and its code is still there, and notes that it is used.
func (c *codeCache) has(module []byte) bool {
	name, err := os.ReadFile(c.mark(module))
	if err != nil || !filepath.IsLocal(string(name)) {
		return false
	}
	code := filepath.Join(c.dir, string(name))
	now := time.Now()
	if info, err := os.Stat(code); err != nil || !info.Mode().IsRegular() {
		return false
	}
	_ = os.Chtimes(code, now, now) // it is older than it could be: it goes earlier
	return true
}

// stage makes a directory for a child to compile into. Remove it.
func (c *codeCache) stage() (string, error) { return os.MkdirTemp(c.dir, staged) }

// adopt takes over what a child compiled, one file, and marks the module as compiled.
func (c *codeCache) adopt(stage string, module []byte) error {
	found, err := filepath.Glob(filepath.Join(stage, engineDirs, "*"))
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("the compiler left %d files", len(found))
	}
	name, err := filepath.Rel(stage, found[0])
	if err != nil {
		return err
	}
	code := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(code), 0o700); err != nil {
		return err
	}
	if err := os.Rename(found[0], code); err != nil {
		return err
	}
	return os.WriteFile(c.mark(module), []byte(name), 0o600)
}

// sweep removes what was used least recently, where all code together is larger than the limit, and what ended processes
// left behind.
func (c *codeCache) sweep() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, err := filepath.Glob(filepath.Join(c.dir, engineDirs, "*"))
	if err != nil {
		return err
	}
	type code struct {
		path string
		fs.FileInfo
	}
	var all []code
	total := int64(0)
	for _, path := range found {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			all = append(all, code{path, info})
			total += info.Size()
		}
	}
	slices.SortFunc(all, func(a, b code) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), strings.Compare(a.path, b.path))
	})
	var faults []error
	for _, f := range all[:max(0, len(all)-1)] { // the one used last is in use
		if total <= c.limit {
			break
		}
		if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, err)
			continue
		}
		c.stats.codeRemoved.Inc()
		total -= f.Size()
	}
	return errors.Join(append(faults, c.tidy())...)
}

// tidy removes marks of code that is gone, and old stages.
func (c *codeCache) tidy() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var faults []error
	for _, e := range entries {
		path := filepath.Join(c.dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), marked):
			name, err := os.ReadFile(path)
			if err == nil && filepath.IsLocal(string(name)) {
				_, err = os.Stat(filepath.Join(c.dir, string(name)))
			}
			if len(name) > 0 && !errors.Is(err, fs.ErrNotExist) {
				continue
			}
			err = os.Remove(path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				faults = append(faults, err)
			}
		case strings.HasPrefix(e.Name(), staged) && e.IsDir():
			if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > stageAge {
				faults = append(faults, os.RemoveAll(path))
			}
		}
	}
	return errors.Join(faults...)
}
