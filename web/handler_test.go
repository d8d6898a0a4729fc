package web

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func get(t *testing.T, h http.Handler, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func site() http.Handler {
	return newServer(fstest.MapFS{
		"index.html":       {Data: []byte("<html>" + strings.Repeat("twin ", 200))},
		"favicon.svg":      {Data: []byte("<svg/>")},
		"assets/a-1234.js": {Data: []byte("let a = 1;" + strings.Repeat(" ", 500))},
	})
}

func TestUnknownPathsGetThePage(t *testing.T) {
	h := site()
	for _, path := range []string{"/", "/twins", "/twins/default/hall-1", "/assets", "/../../etc/passwd"} {
		res := get(t, h, path)
		if got := body(t, res.Body); res.StatusCode != 200 || !strings.HasPrefix(got, "<html>") {
			t.Errorf("%s: got %d %.40q, want the page", path, res.StatusCode, got)
		}
		if res.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: the page may be kept: %q", path, res.Header.Get("Cache-Control"))
		}
	}
	if res := get(t, h, "/assets/gone.js"); res.StatusCode != 404 {
		t.Errorf("a missing asset: got %d, want 404", res.StatusCode)
	}
}

func TestAssetsAreKeptAndCompressed(t *testing.T) {
	h := site()
	res := get(t, h, "/assets/a-1234.js", "Accept-Encoding", "br, gzip")
	if !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("Cache-Control = %q, want immutable", res.Header.Get("Cache-Control"))
	}
	z, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatalf("not compressed: %v", err)
	}
	if got := body(t, z); !strings.HasPrefix(got, "let a = 1;") {
		t.Errorf("got %.40q", got)
	}
	again := get(t, h, "/assets/a-1234.js", "Accept-Encoding", "gzip", "If-None-Match", res.Header.Get("ETag"))
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("same ETag: got %d, want 304", again.StatusCode)
	}
	plain := get(t, h, "/assets/a-1234.js", "Accept-Encoding", "gzip;q=0")
	if plain.Header.Get("Content-Encoding") != "" {
		t.Error("compressed although the client refuses gzip")
	}
	if plain.Header.Get("ETag") == res.Header.Get("ETag") {
		t.Error("plain and compressed share an ETag")
	}
}

func TestOnlyReads(t *testing.T) {
	w := httptest.NewRecorder()
	site().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/twins", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d, want 405", w.Code)
	}
}

func TestUnbuiltTreeSaysHowToBuild(t *testing.T) {
	res := get(t, newServer(unbuilt{}), "/twins")
	if got := body(t, res.Body); !strings.Contains(got, "make build") {
		t.Errorf("got %.80q, want a page that names make build", got)
	}
	if err := fstest.TestFS(Assets(), "index.html"); err != nil && Built() {
		t.Error(err)
	}
	if res := get(t, Handler(), "/"); res.StatusCode != 200 {
		t.Errorf("the embedded tree: got %d at /", res.StatusCode)
	}
}
