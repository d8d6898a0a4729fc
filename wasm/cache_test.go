package wasm_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// TestCacheIsBounded: of compiled code what was used least recently goes, with its mark, once all together is too large; it
// is compiled again where it is needed again.
func TestCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	open := func(limit int64) *wasm.Runtime {
		o := apart(t, dir)
		o.CacheBytes = limit
		return newRuntime(t, &hooks{}, o)
	}
	compile := func(r *wasm.Runtime, n int32) {
		t.Helper()
		if err := compileError(t.Context(), t, r, guest(wasmtest.Const(1+n)).Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	// Each module's code, by what appears when it is compiled; all of one size.
	var codes []string
	size := int64(0)
	r := open(0)
	for n := range int32(3) {
		before := existing(t, dir)
		compile(r, n)
		for path, bytes := range existing(t, dir) {
			if _, old := before[path]; !old {
				codes, size = append(codes, path), bytes
			}
		}
	}
	if len(codes) != 3 || marks(t, dir) != 3 {
		t.Fatalf("code %q, %d marks", codes, marks(t, dir))
	}
	for n, path := range codes {
		at := time.Now().Add(time.Duration(n-10) * time.Hour)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	stale := filepath.Join(dir, "new-1")
	if err := os.Mkdir(stale, 0o700); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(stale, long, long); err != nil {
		t.Fatal(err)
	}

	compile(open(0), 0) // is used
	if at := modified(t, codes[0]); time.Since(at) > time.Hour {
		t.Fatalf("the use of code is not noted: %v", at)
	}
	r = open(3*size - 1) // one is too much
	expect(t, dir, codes[0], codes[2])
	if n := marks(t, dir); n != 2 {
		t.Errorf("%d marks of two modules", n)
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("what a child left behind is still there: %v", err)
	}
	compile(r, 1)
	expect(t, dir, codes[0], codes[1])
	// What a single module takes is not refused.
	r = open(1)
	expect(t, dir, codes[1])
	compile(r, 2)
	expect(t, dir, codes[2])
	if n := marks(t, dir); n != 1 {
		t.Errorf("%d marks of one module", n)
	}
}

// existing are the files of code, with their sizes.
func existing(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "wazero-*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, path := range found {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		out[path] = info.Size()
	}
	return out
}

func expect(t *testing.T, dir string, codes ...string) {
	t.Helper()
	got := existing(t, dir)
	for _, path := range codes {
		if _, ok := got[path]; !ok || len(got) != len(codes) {
			t.Fatalf("the cache has %v, not %q", got, codes)
		}
	}
}

func modified(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}
