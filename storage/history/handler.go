package history

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
)

// maxForm bounds the body of a query sent by POST, in bytes.
const maxForm = 1 << 20

// readPaths are the paths below Prefix that are served. What is not here does not exist: writing, deleting, snapshots,
// forced merges, flags, profiles, configuration.
var readPaths = map[string]bool{
	"/api/v1/query":                 true,
	"/api/v1/query_range":           true,
	"/api/v1/query_exemplars":       true,
	"/api/v1/series":                true,
	"/api/v1/series/count":          true,
	"/api/v1/labels":                true,
	"/api/v1/metadata":              true,
	"/api/v1/export":                true,
	"/api/v1/export/csv":            true,
	"/api/v1/export/native":         true,
	"/api/v1/rules":                 true,
	"/api/v1/alerts":                true,
	"/api/v1/notifiers":             true,
	"/api/v1/status/tsdb":           true,
	"/api/v1/status/buildinfo":      true,
	"/api/v1/status/active_queries": true,
	"/api/v1/status/top_queries":    true,
	"/federate":                     true,
	"/prettify-query":               true,
	"/expand-with-exprs":            true,
	"/vmui":                         true,
	"/graph":                        true,
}

// readable says whether p, cleaned and without Prefix, is one of the reading paths.
func readable(p string) bool {
	if readPaths[p] || strings.HasPrefix(p, "/vmui/") || strings.HasPrefix(p, "/graph/") {
		return true
	}
	label, ok := strings.CutPrefix(p, "/api/v1/label/")
	if !ok {
		return false
	}
	label, ok = strings.CutSuffix(label, "/values")
	return ok && label != "" && !strings.Contains(label, "/")
}

// readOnly serves below Prefix what reads, by GET, HEAD and (for queries) POST, and hands it to next with the prefix
// taken off. vmui asks below /prometheus, which is the same.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == strings.TrimSuffix(Prefix, "/") || r.URL.Path == Prefix {
			// Relative: what stands before the prefix, behind a proxy say, is not known here.
			w.Header().Set("Location", map[bool]string{true: "vmui/", false: "victoria/vmui/"}[r.URL.Path == Prefix])
			w.WriteHeader(http.StatusFound)
			return
		}
		p, ok := strings.CutPrefix(r.URL.Path, Prefix)
		if !ok {
			http.NotFound(w, r)
			return
		}
		slash := strings.HasSuffix(p, "/")
		p = path.Clean("/" + p)
		if slash && p != "/" {
			p += "/"
		}
		if rest, ok := strings.CutPrefix(p, "/prometheus/"); ok {
			p = "/" + rest
		}
		if !readable(p) {
			http.NotFound(w, r)
			return
		}
		switch r.Method {
		case http.MethodGet, http.MethodHead:
		case http.MethodPost:
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		default:
			w.Header().Set("Allow", "GET, HEAD, POST")
			http.Error(w, "only reading is served here", http.StatusMethodNotAllowed)
			return
		}
		r = r.Clone(r.Context())
		r.URL.Path, r.URL.RawPath, r.RequestURI = p, "", p
		if r.URL.RawQuery != "" {
			r.RequestURI += "?" + r.URL.RawQuery
		}
		next.ServeHTTP(noCORS{w}, r)
	})
}

// noCORS takes the headers back with which VictoriaMetrics opens its API to scripts of every site: behind a session
// cookie, only the console's own pages are to read it.
type noCORS struct{ http.ResponseWriter }

func (w noCORS) WriteHeader(status int) {
	w.strip()
	w.ResponseWriter.WriteHeader(status)
}

func (w noCORS) Write(p []byte) (int, error) {
	w.strip()
	return w.ResponseWriter.Write(p)
}

func (w noCORS) strip() {
	h := w.Header()
	h.Del("Access-Control-Allow-Origin")
	h.Del("Access-Control-Allow-Methods")
	h.Del("Access-Control-Allow-Headers")
}

// Unwrap is for http.ResponseController.
func (w noCORS) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// serveStream runs a handler in a goroutine and returns its answer as a stream. The goroutine, counted in running, ends
// when the handler has, which a closed stream hastens. An answer above 299 is an error.
func serveStream(ctx context.Context, running *sync.WaitGroup, r *http.Request, h http.HandlerFunc) (io.ReadCloser, error) {
	pr, pw := io.Pipe()
	w := &streamWriter{header: http.Header{}, pipe: pw, started: make(chan struct{}), status: http.StatusOK}
	running.Go(func() {
		err := guarded("query history", func() { h(w, r.WithContext(ctx)) })
		w.start()
		if err == nil && w.late != 0 {
			err = answerError(w.late, bytes.NewReader(w.text))
		}
		pw.CloseWithError(err) // nil: the end
	})
	select {
	case <-w.started:
	case <-ctx.Done():
		pr.CloseWithError(ctx.Err())
		return nil, ctx.Err()
	}
	if w.status > 299 {
		defer pr.Close()
		return nil, answerError(w.status, pr)
	}
	return pr, nil
}

type streamWriter struct {
	header  http.Header
	pipe    *io.PipeWriter
	begun   bool
	status  int // before started is closed
	started chan struct{}
	// late is the status of an error that was met within the answer, text what it says.
	late int
	text []byte
}

func (w *streamWriter) Header() http.Header { return w.header }

func (w *streamWriter) WriteHeader(status int) {
	if !w.begun {
		w.status = status
	} else if status > 299 {
		w.late = status
	}
	w.start()
}

func (w *streamWriter) start() {
	if !w.begun {
		w.begun = true
		close(w.started)
	}
}

func (w *streamWriter) Write(p []byte) (int, error) {
	w.start()
	if w.late != 0 {
		w.text = append(w.text, p[:min(len(p), 1<<10)]...)
		return len(p), nil
	}
	return w.pipe.Write(p)
}
