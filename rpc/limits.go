package rpc

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

const (
	// MaxUpload in bytes is the largest body: a driver of 32 MiB and what wraps it.
	MaxUpload = 34 << 20
	// maxRequest in bytes is the largest message of every other procedure.
	maxRequest = 1 << 20
	// maxDryRun in bytes is the largest dry run: 100,000 twins, or all files of a building.
	maxDryRun = 16 << 20
	// maxDryRuns go on at once: each holds what it is asked, and what would come of it, in memory, 400 MB of 100,000 twins.
	maxDryRuns = 2
	// maxUploads run at once, as each holds its file in memory.
	maxUploads = 2
	// maxBackups are taken at once: each reads the whole store.
	maxBackups = 2
	// chunkTimeout for the next piece of a body that has no length of its own.
	chunkTimeout = 30 * time.Second
	// headerTimeout for a request's headers; a client on a bad radio link needs a few seconds.
	headerTimeout = 10 * time.Second
	// bodyTimeout for a request's body as a whole.
	bodyTimeout = 30 * time.Second
	// uploadTimeout for the body of an upload: 34 MiB at 1 Mbit/s.
	uploadTimeout = 5 * time.Minute
	// restTimeout for what a client still sends after it was answered. The server reads some of it, so that the answer
	// reaches clients that read only when they have written.
	restTimeout = 2 * time.Second
	// writeTimeout for a client to take what is written, each time.
	writeTimeout = 20 * time.Second
	// idleTimeout for connections between requests.
	idleTimeout = 2 * time.Minute
	// maxHeader in bytes.
	maxHeader = 64 << 10
)

// NewHTTPServer gives a server with the limits that the handler relies on: HTTP/1.1 and HTTP/2, the latter also without
// TLS (gRPC clients on loopback). TLS may be nil.
func NewHTTPServer(h http.Handler, conf *tls.Config, log *slog.Logger) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{
		Handler: h, TLSConfig: conf, Protocols: &protocols,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			// A gRPC client opens one connection for all of its calls.
			MaxConcurrentStreams: 1000,
			SendPingTimeout:      30 * time.Second,
			PingTimeout:          15 * time.Second,
			WriteByteTimeout:     writeTimeout,
			MaxReadFrameSize:     256 << 10,
			// Bounds what strangers' bodies hold in memory, per connection and stream.
			MaxReceiveBufferPerConnection: 4 << 20,
			MaxReceiveBufferPerStream:     1 << 20,
		},
	}
	if log != nil {
		s.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	}
	if door, ok := h.(*Server); ok {
		s.RegisterOnShutdown(door.o.Keys.endStreams)
		(&strangers{Handler: h, count: door.refused.strangers}).watch(s)
	}
	return s
}

// slowWriter gives the client a time to take each write. A client that does not loses the connection. The deadline is
// moved only when it is a twentieth old, as each move costs.
type slowWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	last    time.Time
}

func (w *slowWriter) extend() {
	if now := time.Now(); now.Sub(w.last) > w.timeout/20 {
		w.last = now
		// A writer without deadlines is one of a test; the server's own all have them.
		_ = w.control.SetWriteDeadline(now.Add(w.timeout))
	}
}

func (w *slowWriter) Write(b []byte) (int, error) {
	w.extend()
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (w *slowWriter) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController looks for.
func (w *slowWriter) FlushError() error {
	w.extend()
	return w.control.Flush()
}

// Unwrap lets http.ResponseController reach the connection.
func (w *slowWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// slowBody takes the body's deadline away at its end: the connection is read on meanwhile, to notice that the client
// left.
type slowBody struct {
	io.ReadCloser
	control *http.ResponseController
	ended   bool
}

// slowCall is both sides of a call in one allocation.
type slowCall struct {
	w slowWriter
	b slowBody
	s sizedBody
}

// sizedBody says what a body's limit says wherever it is met: announced by the client, or found while reading.
type sizedBody struct {
	io.ReadCloser
	// met counts what was found while reading.
	met  *metrics.Counter
	over bool
	// room that the body holds until its request is done.
	room *room
	held int64
}

func (b *sizedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // the common end, and readers give it bare
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			err = translate(err)
			if !b.over {
				b.over = true
				b.met.Inc()
			}
		}
	}
	if n > 0 && !b.hold(int64(n)) {
		return 0, translate(fmt.Errorf("%w bodies at once: they hold %d bytes", errTooMany, b.room.size))
	}
	return n, err
}

func (b *sizedBody) hold(n int64) bool {
	if !b.room.take(n) {
		return false
	}
	b.held += n
	return true
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	// At any other end the deadline stays: the server would read on behind the handler's back.
	if errors.Is(err, io.EOF) && !b.ended {
		b.ended = true
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// Close implements io.Closer. The server reads the rest here, for a while.
func (b *slowBody) Close() error {
	b.hurry()
	return b.ReadCloser.Close()
}

// hurry shortens the deadline where the body is not wanted any more.
func (b *slowBody) hurry() {
	if !b.ended {
		b.ended = true
		_ = b.control.SetReadDeadline(time.Now().Add(restTimeout))
	}
}

// refusal answers a request that a limit stops.
type refusal func(w http.ResponseWriter, r *http.Request, err error)

// bounds of a request's body.
type bounds struct {
	// size in bytes; what is announced larger is refused, what turns out to be is counted by met.
	size    int64
	timeout time.Duration
	refuse  refusal
	met     *metrics.Counter
	// room for the bodies of all requests together; nil: endless.
	room *room
}

// limited bounds a request's body and both directions' time. The deadline stands before the handler runs, as the server
// reads on where a handler leaves a body.
func limited(next http.Handler, b bounds) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		slow := &slowCall{w: slowWriter{ResponseWriter: w, control: control, timeout: writeTimeout}}
		if r.Body != nil && r.Body != http.NoBody {
			_ = control.SetReadDeadline(time.Now().Add(b.timeout))
			if r.ContentLength > b.size {
				b.refuse(&slow.w, r, &http.MaxBytesError{Limit: b.size})
				return
			}
			slow.b = slowBody{ReadCloser: r.Body, control: control}
			slow.s = sizedBody{ReadCloser: http.MaxBytesReader(w, &slow.b, b.size), met: b.met, room: b.room}
			r.Body = &slow.s
			defer func() {
				slow.b.hurry()
				b.room.give(slow.s.held)
			}()
			if packed(r.Header) && !slow.s.hold(b.size) {
				b.refuse(&slow.w, r, fmt.Errorf("%w bodies at once: they hold %d bytes", errTooMany, b.room.size))
				return
			}
		}
		next.ServeHTTP(&slow.w, r)
	})
}

// streamed bounds the time of each step in both directions, and not the whole: a backup is as long as it is.
func streamed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if r.ProtoMajor == 1 {
			// Where it is refused, the client still writes: what it sends is no next request.
			w.Header().Set("Connection", "close")
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &chunkedBody{ReadCloser: r.Body, control: control}
		}
		next.ServeHTTP(&slowWriter{ResponseWriter: w, control: control, timeout: writeTimeout}, r)
	})
}

// chunkedBody gives the client a time for each read.
type chunkedBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b *chunkedBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(chunkTimeout))
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// atMost lets n requests in at once and turns the others away.
func atMost(next http.Handler, n int, refuse refusal) http.Handler {
	slots := make(chan struct{}, n)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			next.ServeHTTP(w, r)
		default:
			refuse(w, r, fmt.Errorf("%w requests of this kind at once: %d are running", errTooMany, n))
		}
	})
}
