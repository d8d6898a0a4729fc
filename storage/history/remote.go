package history

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/VictoriaMetrics/metrics"
	"github.com/klauspost/compress/snappy"

	"github.com/polluxhq/pollux/storage"
)

const (
	// DefaultQueueBytes bounds the queue on disk. A sample takes some 10 to 20 bytes there.
	DefaultQueueBytes = 4 << 30
	// MinQueueBytes holds some of the largest blocks.
	MinQueueBytes = 64 << 20
	// DefaultRemoteSettle is twice what VictoriaMetrics takes at most to write samples to its disk.
	DefaultRemoteSettle = recentAge
	// maxBlockSamples and maxBlockLabels, in bytes of labels, bound a request to the server.
	maxBlockSamples = 10_000
	maxBlockLabels  = 4 << 20
	// writePath is below the server's address.
	writePath = "/api/v1/write"
)

// RemoteOptions of an external server.
type RemoteOptions struct {
	// URL of the server, such as http://metrics:8428, with user and password if it wants them. A path is kept; the
	// Prometheus API is expected below it. A URL that ends with /api/v1/write means the same without that.
	URL string
	// QueryURL is where queries go, if not to URL.
	QueryURL string
	// Dir holds the queue. It is created.
	Dir string
	// QueueBytes bounds the queue on disk, 0 for DefaultQueueBytes, at least MinQueueBytes. When it is full, the oldest
	// samples are dropped and counted in pollux_history_queue_dropped_blocks_total.
	QueueBytes int64
	// Retention of the server, 0 for DefaultRetention: older samples are not sent.
	Retention time.Duration
	// Settle is after what time a sample that the server has acknowledged counts as being on its disk, 0 for
	// DefaultRemoteSettle.
	Settle time.Duration
	// MemoryAllowedBytes as in Options; the queue's buffers are small.
	MemoryAllowedBytes int64
	// Logger gets failures, one line per outage. Nil: none.
	Logger *slog.Logger
	// Fatal as in Options: the queue cannot be written.
	Fatal func(error)
	// Metrics gets the counters of this package. Nil: they are kept and not shown.
	Metrics *metrics.Set
}

func (o *RemoteOptions) check() (write, query *url.URL, err error) {
	if o.QueueBytes == 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.Retention == 0 {
		o.Retention = DefaultRetention
	}
	if o.Settle == 0 {
		o.Settle = DefaultRemoteSettle
	}
	if o.MemoryAllowedBytes == 0 {
		o.MemoryAllowedBytes = DefaultMemory
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	switch {
	case o.Dir == "":
		return nil, nil, errors.New("history Dir is empty")
	case o.QueueBytes < MinQueueBytes:
		return nil, nil, fmt.Errorf("history QueueBytes %d is below %d", o.QueueBytes, MinQueueBytes)
	case o.Retention < MinRetention || o.Retention > MaxRetention:
		return nil, nil, fmt.Errorf("history Retention %s is not in %s..%s", o.Retention, MinRetention, MaxRetention)
	}
	if write, err = serverURL("URL", o.URL); err != nil {
		return nil, nil, err
	}
	query = write
	if o.QueryURL != "" {
		if query, err = serverURL("QueryURL", o.QueryURL); err != nil {
			return nil, nil, err
		}
	}
	return write, query, checkMemory(o.MemoryAllowedBytes)
}

// serverURL parses a server's address. Its errors do not show a password.
func serverURL(field, s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("history %s: %w", field, errors.Unwrap(err))
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("history %s %q is not http://HOST:PORT or https://HOST:PORT", field, u.Redacted())
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(strings.TrimRight(u.Path, "/"), writePath), "/")
	return u, nil
}

// Remote pushes to an external server by Prometheus remote write, through a queue on disk. The server gets every sample
// at least once: it should run with -dedup.minScrapeInterval=1ms, which makes a repetition harmless.
type Remote struct {
	o        RemoteOptions
	queryURL *url.URL
	client   *http.Client
	patient  *http.Client // waits for an answer as long as the context does
	drops    drops
	stats    insertStats
	query    querier
	proxy    http.Handler
	queue    *queue
	sender   *sender
	sent     marks // indexes that the server has acknowledged
	rolled   rolledProjects

	gate   sync.RWMutex // as in Embedded
	closed bool

	mu  sync.Mutex // guards the request being built
	req writeRequest
}

// OpenRemote opens the queue in o.Dir and starts to send what it holds. The server need not be there. A wrong option and
// a queue that another process uses are refused.
func OpenRemote(o RemoteOptions) (*Remote, error) {
	write, query, err := o.check()
	if err != nil {
		return nil, err
	}
	process.mu.Lock()
	defer process.mu.Unlock()
	if err := prepare(o.Logger, o.MemoryAllowedBytes, o.Fatal); err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	q, err := openQueue(filepath.Join(o.Dir, queueName), o.QueueBytes, o.Logger)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       60 * time.Second,
		MaxIdleConnsPerHost:   8,
	}
	waiting := transport.Clone()
	waiting.ResponseHeaderTimeout = 0
	sending := transport.Clone()
	r := &Remote{
		o: o, queryURL: query, client: &http.Client{Transport: transport}, patient: &http.Client{Transport: waiting}, queue: q,
		drops: newDrops(o.Metrics), stats: newInsertStats(o.Metrics),
	}
	r.query = querier{fetch: r.fetch, hasRolled: r.hasRolled}
	r.proxy = readOnly(r.reverseProxy(transport))
	r.sent.settle = o.Settle
	// A pool of its own: a new connection then says that the one before has ended.
	r.sender = startSender(q, &http.Client{Transport: sending}, write, &r.query, o.Logger, o.Metrics, func(index uint64) { r.sent.add(index, time.Now()) })
	o.Metrics.GetOrCreateGauge("pollux_history_queue_bytes", func() float64 { return float64(q.bytes()) })
	o.Metrics.GetOrCreateGauge("pollux_history_queue_dropped_blocks_total", func() float64 { return float64(q.dropped()) })
	return r, nil
}

func (r *Remote) enter() error {
	r.gate.RLock()
	if r.closed {
		r.gate.RUnlock()
		return ErrClosed
	}
	return nil
}

func (r *Remote) leave() { r.gate.RUnlock() }

// Insert implements Sink: the samples are in the queue. Samples that can never be stored are counted and left out.
func (r *Remote) Insert(_ context.Context, index uint64, samples []storage.TwinSamples) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := boundsAt(time.Now(), r.o.Retention)
	r.req.reset()
	for i := range samples {
		if err := r.put(&samples[i], b); err != nil {
			return err
		}
	}
	return r.flush(1, index)
}

// put adds samples to the request being built. mu must be held.
func (r *Remote) put(t *storage.TwinSamples, b bounds) error {
	if !r.drops.admitTwin(t) {
		return nil
	}
	for j := range t.Samples {
		s := &t.Samples[j]
		if !r.drops.admit(s, b) {
			continue
		}
		r.req.label("__name__", Metric)
		r.req.label("model", t.Model)
		r.req.label("project", t.Project)
		r.req.label("property", s.Property)
		r.req.label("twin", t.Twin)
		r.req.row(s.Time, s.Value)
		if err := r.flush(maxBlockSamples, 0); err != nil {
			return err
		}
	}
	return nil
}

// InsertMetrics implements MetricSink.
func (r *Remote) InsertMetrics(_ context.Context, text, node string, at time.Time) (err error) {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.req.reset()
	parseMetrics(text, func(name string, labels func(add func(name, value string)), v float64) {
		r.req.label("__name__", name)
		labels(r.req.label)
		r.req.label("node", node)
		r.req.row(at.UnixMilli(), v)
		err = errors.Join(err, r.flush(maxBlockSamples, 0))
	})
	return errors.Join(err, r.flush(1, 0))
}

// flush puts the request into the queue if it has at least min samples, or is large otherwise, or if there is an index to
// tell. mu must be held.
func (r *Remote) flush(min int, index uint64) error {
	n := len(r.req.samples)
	if n < min && r.req.size < maxBlockLabels && index == 0 {
		return nil
	}
	if n > 0 {
		if err := r.queue.add(r.req.block(), 0); err != nil {
			r.stats.errors.Inc()
			return err
		}
		r.stats.samples.Add(n)
		r.req.reset()
	}
	if index == 0 {
		return nil
	}
	// Whoever takes this out has sent all before it.
	if err := r.queue.add(binary.BigEndian.AppendUint64([]byte{blockSync}, index), index); err != nil {
		r.stats.errors.Inc()
		return err
	}
	return nil
}

// Sent returns the index up to which the server has all samples on its disk; 0 where that is not known yet.
func (r *Remote) Sent() uint64 { return r.sent.durable(time.Now()) }

// passed says whether what was in the queue when it was first asked with this number is at the server. It has to be asked again until then.
func (r *Remote) passed(number uint64) (bool, error) {
	if r.sender.marked.Load() == number {
		return true, nil
	}
	return false, r.queue.add(binary.BigEndian.AppendUint64([]byte{blockMark}, number), 0)
}

// Durable implements Sink: what has reached the queue's disk.
func (r *Remote) Durable() uint64 { return r.queue.durable() }

// Query implements History by asking the server.
func (r *Remote) Query(ctx context.Context, q Query) (Result, error) {
	if err := q.check(); err != nil {
		return Result{}, err
	}
	if err := r.enter(); err != nil {
		return Result{}, err
	}
	defer r.leave()
	return r.query.run(ctx, q)
}

func (r *Remote) fetch(ctx context.Context, req *http.Request) (io.ReadCloser, error) {
	return r.ask(ctx, r.client, req)
}

func (r *Remote) ask(ctx context.Context, client *http.Client, req *http.Request) (io.ReadCloser, error) {
	req = req.Clone(ctx)
	address(req, r.queryURL)
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if resp.StatusCode > 299 {
		defer resp.Body.Close()
		return nil, answerError(resp.StatusCode, resp.Body)
	}
	return resp.Body, nil
}

// address points a request, whose path is below the API's root, at the server.
func address(req *http.Request, server *url.URL) {
	req.URL.Scheme, req.URL.Host = server.Scheme, server.Host
	req.URL.Path, req.URL.RawPath = server.Path+req.URL.Path, ""
	req.Host = server.Host
	if u := server.User; u != nil {
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
	}
}

func (r *Remote) reverseProxy(t http.RoundTripper) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: t,
		Rewrite: func(pr *httputil.ProxyRequest) {
			// What proves the caller to us is not the server's to see.
			pr.Out.Header.Del("Authorization")
			pr.Out.Header.Del("Cookie")
			address(pr.Out, r.queryURL)
		},
		ModifyResponse: func(resp *http.Response) error {
			resp.Header.Del("Set-Cookie")
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, req *http.Request, err error) {
			if req.Context().Err() == nil {
				r.o.Logger.Debug("history proxy", "path", req.URL.Path, "error", err)
			}
			http.Error(w, "the metrics server does not answer", http.StatusBadGateway)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := r.enter(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		defer r.leave()
		proxy.ServeHTTP(w, req)
	})
}

// Handler implements History: a reverse proxy to the reading half of the server.
func (r *Remote) Handler() http.Handler { return r.proxy }

// Pending returns how many bytes wait in the queue.
func (r *Remote) Pending() uint64 {
	if r.enter() != nil {
		return 0
	}
	defer r.leave()
	return r.queue.bytes()
}

// Close stops sending. What is not sent stays in the queue for the next start.
func (r *Remote) Close() error {
	r.gate.Lock()
	if r.closed {
		r.gate.Unlock()
		return ErrClosed
	}
	r.closed = true
	r.gate.Unlock()
	back := r.sender.close()
	r.sender.client.CloseIdleConnections()
	r.client.CloseIdleConnections()
	r.patient.CloseIdleConnections()
	r.o.Metrics.UnregisterMetric("pollux_history_queue_bytes")
	r.o.Metrics.UnregisterMetric("pollux_history_queue_dropped_blocks_total")
	return r.queue.close(back)
}

// writeRequest is a remote write request in the making, with buffers that are reused.
type writeRequest struct {
	labels  []prompb.Label
	size    int // of labels, in bytes
	samples []prompb.Sample
	ends    []int // of each sample's labels
	series  []prompb.TimeSeries
	proto   []byte
	packed  []byte
}

func (w *writeRequest) reset() {
	clear(w.labels)
	clear(w.series)
	w.labels, w.samples, w.ends, w.series, w.size = w.labels[:0], w.samples[:0], w.ends[:0], w.series[:0], 0
}

func (w *writeRequest) label(name, value string) {
	if value != "" {
		w.labels = append(w.labels, prompb.Label{Name: name, Value: value})
		w.size += len(name) + len(value)
	}
}

func (w *writeRequest) row(at int64, v float64) {
	w.samples = append(w.samples, prompb.Sample{Timestamp: at, Value: v})
	w.ends = append(w.ends, len(w.labels))
}

// block returns the packed request, valid until the next call.
func (w *writeRequest) block() []byte {
	from := 0
	for i, to := range w.ends {
		w.series = append(w.series, prompb.TimeSeries{Labels: w.labels[from:to], Samples: w.samples[i : i+1]})
		from = to
	}
	wr := prompb.WriteRequest{Timeseries: w.series}
	w.proto = wr.MarshalProtobuf(w.proto[:0])
	if need := 1 + snappy.MaxEncodedLen(len(w.proto)); cap(w.packed) < need {
		w.packed = make([]byte, need)
	}
	w.packed = w.packed[:cap(w.packed)]
	w.packed[0] = blockSnappy
	return w.packed[:1+len(snappy.Encode(w.packed[1:], w.proto))]
}
