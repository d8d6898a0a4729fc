package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
)

// contentPolicy lets the page load only its own files. Styles may be inline: the component library sets its variables so.
const contentPolicy = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
	"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// Handler serves the console: its files, and index.html for every other path, so that the console's own addresses can
// be opened and reloaded. A path below assets/ that is no file is 404. Mount it at `/`, after everything else. It may be
// called concurrently and holds each file once, plain and compressed.
func Handler() http.Handler { return newServer(Assets()) }

type server struct {
	files fs.FS
	mu    sync.Mutex
	cache map[string]*asset
}

// asset is a file ready to be sent. Files are few and embedded, so none is ever dropped.
type asset struct {
	body, gzipped []byte
	kind, etag    string
}

func newServer(files fs.FS) *server {
	return &server{files: files, cache: map[string]*asset{}}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	a := s.load(name)
	if a == nil {
		if strings.HasPrefix(name, "assets/") {
			http.NotFound(w, r)
			return
		}
		name = "index.html"
		if a = s.load(name); a == nil {
			http.NotFound(w, r)
			return
		}
	}
	a.send(w, r, strings.HasPrefix(name, "assets/"))
}

// load gives the file of that name, or nil where there is none.
func (s *server) load(name string) *asset {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.cache[name]; ok {
		return a
	}
	info, err := fs.Stat(s.files, orDot(name))
	if err != nil || info.IsDir() {
		return nil
	}
	body, err := fs.ReadFile(s.files, name)
	if err != nil {
		return nil
	}
	a := newAsset(name, body)
	s.cache[name] = a
	return a
}

func orDot(name string) string {
	if name == "" {
		return "."
	}
	return name
}

func newAsset(name string, body []byte) *asset {
	sum := sha256.Sum256(body)
	a := &asset{body: body, kind: mime.TypeByExtension(path.Ext(name)), etag: hex.EncodeToString(sum[:12])}
	switch path.Ext(name) {
	case ".html", ".js", ".css", ".svg", ".json":
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		// A bytes.Buffer takes every write.
		_, _ = z.Write(body)
		_ = z.Close()
		if buf.Len() < len(body) {
			a.gzipped = buf.Bytes()
		}
	}
	if a.kind == "" {
		a.kind = "application/octet-stream"
	}
	return a
}

// send answers with the file. Names below assets/ carry a digest of their content, so a browser keeps them for ever; all
// else is asked for again each time.
func (a *asset) send(w http.ResponseWriter, r *http.Request, immutable bool) {
	body, etag := a.body, a.etag
	h := w.Header()
	if a.gzipped != nil {
		h.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Get("Accept-Encoding")) {
			body, etag = a.gzipped, a.etag+"-gz"
			h.Set("Content-Encoding", "gzip")
		}
	}
	h.Set("Content-Type", a.kind)
	h.Set("ETag", `"`+etag+`"`)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Cache-Control", "no-cache")
	if immutable {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if strings.Contains(r.Header.Get("If-None-Match"), `"`+etag+`"`) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body)
}

// acceptsGzip reads an Accept-Encoding header; `gzip;q=0` refuses it.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(coding) != "gzip" {
			continue
		}
		q = strings.ReplaceAll(q, " ", "")
		return !strings.HasPrefix(q, "q=0") || strings.Trim(q, "q=0.") != ""
	}
	return false
}
