package peer

import (
	"log/slog"
	"net/http"
	"strings"
)

// debugLog takes the lines of the HTTP server.
type debugLog struct{ to *slog.Logger }

func (d debugLog) Write(b []byte) (int, error) {
	d.to.Debug("peer http", "line", strings.TrimSpace(string(b)))
	return len(b), nil
}

// wholeWrites gathers what Connect writes until it flushes: its 5 bytes and the message would otherwise be several frames.
func wholeWrites(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := &gathered{ResponseWriter: w}
		next.ServeHTTP(b, r)
		b.Flush()
	})
}

type gathered struct {
	http.ResponseWriter
	buf []byte
}

func (g *gathered) Write(b []byte) (int, error) {
	g.buf = append(g.buf, b...)
	return len(b), nil
}

// FlushError sends what was gathered.
func (g *gathered) FlushError() error {
	if len(g.buf) > 0 {
		_, err := g.ResponseWriter.Write(g.buf)
		if g.buf = g.buf[:0]; cap(g.buf) > 4*chunkSize {
			g.buf = nil
		}
		if err != nil {
			return err
		}
	}
	return http.NewResponseController(g.ResponseWriter).Flush()
}

// Flush is FlushError for those who do not ask.
func (g *gathered) Flush() { g.FlushError() }
