package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/klauspost/compress/snappy"

	"github.com/polluxhq/pollux/storage"
)

// remoteUnderTest can make its server show what it has.
type remoteUnderTest struct {
	*Remote
	server *server
}

func (r *remoteUnderTest) flush() {
	resp, err := http.Get(r.server.url() + "/internal/force_flush")
	if err == nil {
		resp.Body.Close()
	}
}

func openRemote(t testing.TB, s *server, o RemoteOptions) *remoteUnderTest {
	t.Helper()
	if o.URL == "" {
		o.URL = s.url()
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Logger == nil {
		o.Logger = testLogger(t)
		t.Cleanup(func() { process.log.Store(nil) })
	}
	o.MemoryAllowedBytes = 64 << 20
	r, err := OpenRemote(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return &remoteUnderTest{r, s}
}

// compareRemote waits until everything is sent and shows, and compares it with the journal.
func compareRemote(t *testing.T, r *remoteUnderTest, f *Feeder, j *journal) {
	t.Helper()
	eventually(t, 30*time.Second, "all is fed", func() bool { return f.Lag() == 0 })
	eventually(t, 30*time.Second, "all is sent", func() bool { return r.Pending() == 0 && !r.sender.outage.Load() })
	lost, twice, all := 0, 0, 0
	eventuallyShow(t, 20*time.Second, func() bool {
		r.flush()
		lost, twice, all = missing(t, r, j)
		return lost == 0
	}, &lost, &all)
	if twice > 0 {
		t.Errorf("%d samples are there twice", twice)
	}
	if t.Logf("%d samples compared", all); all < 1000 {
		t.Errorf("only %d samples compared", all)
	}
}

func eventuallyShow(t *testing.T, within time.Duration, ok func() bool, lost, all *int) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d samples do not show", *lost, *all)
		}
	}
}

func TestRemote(t *testing.T) {
	t.Parallel()
	s := startServer(t, "-dedup.minScrapeInterval=1ms")
	testHistory(t, openRemote(t, s, RemoteOptions{}))
}

// TestRemoteShowsTheNewestSteps: the last half minute, which a server with its default options hides.
func TestRemoteShowsTheNewestSteps(t *testing.T) {
	t.Parallel()
	r := openRemote(t, startServer(t), RemoteOptions{})
	end := time.Now().Truncate(time.Second)
	var samples []storage.Sample
	for i := range 40 {
		samples = append(samples, storage.Sample{Property: "v", Time: end.Add(time.Duration(i-39) * time.Second).UnixMilli(), Value: float64(i)})
	}
	insert(t, r, one("p", "t", "m", samples...))
	for _, aggregate := range []string{"last", "max", "count"} {
		got := query(t, r, Query{Project: "p", Twin: "t", Property: "v", Start: end.Add(-39 * time.Second), End: end, Step: time.Second, Aggregate: aggregate})
		if len(got.Points) != 40 {
			t.Fatalf("%s: %d points of 40: %v", aggregate, len(got.Points), got.Points)
		}
		for i, p := range got.Points {
			want := Point{samples[i].Time, samples[i].Value}
			if aggregate == "count" {
				want.Value = 1
			}
			if p != want {
				t.Errorf("%s: step %d is %v, want %v", aggregate, i, p, want)
			}
		}
	}
}

// TestRemoteRepetitionIsOne: what was sent twice to a server that does not remove repetitions.
func TestRemoteRepetitionIsOne(t *testing.T) {
	t.Parallel()
	r := openRemote(t, startServer(t), RemoteOptions{})
	at := base().UnixMilli()
	var samples []storage.Sample
	var want []Point
	for i := range 20 {
		samples = append(samples, storage.Sample{Property: "v", Time: at + int64(i), Value: float64(i)})
		want = append(want, Point{at + int64(i), float64(i)})
	}
	insert(t, r, one("p", "t", "m", samples...))
	r.flush()
	insert(t, r, one("p", "t", "m", samples...))
	insert(t, r, one("p", "t", "m", storage.Sample{Property: "end", Time: at, Value: 1}))
	q := Query{Project: "p", Twin: "t", Property: "v", Start: time.UnixMilli(at), End: time.UnixMilli(at + 20)}
	if got := query(t, r, q); !slices.Equal(got.Points, want) || got.Truncated {
		t.Errorf("got %v", got)
	}
	q.Limit = 20
	if got := query(t, r, q); !slices.Equal(got.Points, want) || got.Truncated {
		t.Errorf("with a limit: got %v", got)
	}
}

// TestRemoteOutage: an external server goes away for twelve seconds under load and comes back; it has the same number of
// samples as were sent. It runs without de-duplication, so that one sample too many would show.
func TestRemoteOutage(t *testing.T) {
	t.Parallel()
	away := 12 * time.Second
	if testing.Short() {
		away = 5 * time.Second
	}
	testOutage(t, startServer(t), "", syscall.SIGTERM, away)
}

// TestRemoteServerKilled: the server is killed, and loses what it held in memory, acknowledged to us.
func TestRemoteServerKilled(t *testing.T) {
	t.Parallel()
	testOutage(t, startServer(t, "-dedup.minScrapeInterval=1ms"), "", syscall.SIGKILL, 2*time.Second)
}

// TestRemoteServerKilledBehindAProxy: no connection of ours fails then, the proxy says that the server does not answer.
func TestRemoteServerKilledBehindAProxy(t *testing.T) {
	t.Parallel()
	s := startServer(t, "-dedup.minScrapeInterval=1ms")
	testOutage(t, s, proxyOf(t, s, nil), syscall.SIGKILL, 2*time.Second)
}

// proxyOf is a proxy before a server, whose address it gives. before, where not nil, is called ahead of each request.
func proxyOf(t *testing.T, s *server, before func(r *http.Request)) string {
	t.Helper()
	to, err := url.Parse(s.url())
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // Go's proxy cuts an answer that begins before it has read all
		r.Body = io.NopCloser(bytes.NewReader(body))
		if before != nil {
			before(r)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p.URL
}

// TestRemoteServerKilledBetween: the server is killed and there again before anything is sent to it.
func TestRemoteServerKilledBetween(t *testing.T) {
	t.Parallel()
	s := startServer(t, "-dedup.minScrapeInterval=1ms")
	r := openRemote(t, s, RemoteOptions{})
	at := base()
	q := Query{Project: "default", Twin: "t", Property: "p", Start: at, End: at.Add(time.Second)}
	for i := range 2 {
		sample := storage.Sample{Property: "p", Time: at.UnixMilli() + int64(i), Value: float64(i)}
		if err := r.Insert(t.Context(), uint64(i+1), one("default", "t", "m", sample)); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, "it is sent", func() bool {
			r.sender.hold.Lock()
			defer r.sender.hold.Unlock()
			return r.sender.sent.Get() == uint64(i+1)
		})
		if i == 0 {
			s.stop(syscall.SIGKILL)
			s.start()
		}
	}
	// What is sent next: the node's own metrics come every few seconds.
	if err := r.InsertMetrics(t.Context(), "up 1", "n", time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "both show", func() bool {
		r.flush()
		return len(query(t, r, q).Points) == 2
	})
}

func testOutage(t *testing.T, s *server, at string, sig syscall.Signal, away time.Duration) {
	j := newJournal()
	set := metrics.NewSet()
	r := openRemote(t, s, RemoteOptions{URL: at, Metrics: set})
	f := Feed(t.Context(), j, r, FeedOptions{Linger: 20 * time.Millisecond, CursorInterval: 100 * time.Millisecond, Logger: testLogger(t)})
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var loading atomic.Bool
	loading.Store(true)
	go func() {
		defer loading.Store(false)
		// A time of its own for each sample of a series, so that the number of samples can be compared.
		for i := 0; ctx.Err() == nil; i++ {
			batch := loadBatch(i)
			at := time.Now().UnixMilli()
			for k := range batch {
				for n := range batch[k].Samples {
					batch[k].Samples[n].Time = at
				}
			}
			if err := j.append(batch); err != nil {
				t.Error(err)
				return
			}
			for time.Now().UnixMilli() == at {
				sleep(ctx, 2*time.Millisecond)
			}
		}
	}()
	sent := set.GetOrCreateCounter("pollux_history_sent_blocks_total")
	eventually(t, 30*time.Second, "blocks are sent", func() bool { return sent.Get() > 50 })
	s.stop(sig)
	gone := time.Now()
	eventually(t, away+10*time.Second, "the outage is noticed and lasts", func() bool { return time.Since(gone) > away && r.sender.outage.Load() })
	if r.Pending() == 0 {
		t.Error("nothing waits in the queue")
	}
	if f.Cursor() < f.Fed()/2 {
		t.Errorf("cursor %d of %d fed: the log could not be truncated", f.Cursor(), f.Fed())
	}
	if _, err := r.Query(t.Context(), Query{Project: "p", Twin: "t", Property: "x", Start: base(), End: time.Now()}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("query meanwhile: got %v", err)
	}
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/victoria/api/v1/labels", nil))
	if w.Code != http.StatusBadGateway {
		t.Errorf("request meanwhile: status %d", w.Code)
	}
	s.start()
	n := sent.Get()
	eventually(t, 30*time.Second, "blocks are sent again", func() bool { return sent.Get() > n+20 })
	cancel()
	eventually(t, 30*time.Second, "the load ends", func() bool { return !loading.Load() })
	compareRemote(t, r, f, j)
}

func TestRemoteRefusesOptions(t *testing.T) {
	dir := t.TempDir()
	good := RemoteOptions{URL: "http://127.0.0.1:1", Dir: dir}
	for want, change := range map[string]func(o *RemoteOptions){
		"Dir":                    func(o *RemoteOptions) { o.Dir = "" },
		`URL "127.0.0.1:8428"`:   func(o *RemoteOptions) { o.URL = "127.0.0.1:8428" },
		`URL "ftp://a"`:          func(o *RemoteOptions) { o.URL = "ftp://a" },
		`http://u:xxxxx@h?x=1`:   func(o *RemoteOptions) { o.URL = "http://u:secret@h?x=1" },
		"QueryURL":               func(o *RemoteOptions) { o.QueryURL = "nowhere" },
		"QueueBytes 1 is below":  func(o *RemoteOptions) { o.QueueBytes = 1 },
		"Retention 1h0m0s":       func(o *RemoteOptions) { o.Retention = time.Hour },
		"MemoryAllowedBytes 100": func(o *RemoteOptions) { o.MemoryAllowedBytes = 100 },
	} {
		o := good
		change(&o)
		r, err := OpenRemote(o)
		if err == nil {
			r.Close()
		}
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "first path segment in URL cannot contain colon", `URL "127.0.0.1:8428"`), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

// TestRemoteRequests: where requests go, with which credentials, and what becomes of answers.
func TestRemoteRequests(t *testing.T) {
	var refuse atomic.Int32
	seen := make(chan string, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		user, password, _ := req.BasicAuth()
		body, _ := io.ReadAll(req.Body)
		if req.URL.Path == "/base/api/v1/write" {
			if _, err := snappy.Decode(nil, body); err != nil || req.Header.Get("Content-Encoding") != "snappy" {
				t.Errorf("body of a write: %v", err)
			}
			if status := refuse.Swap(0); status != 0 {
				w.WriteHeader(int(status))
				return
			}
		}
		seen <- fmt.Sprintf("%s %s:%s cookie=%q", req.URL.Path, user, password, req.Header.Get("Cookie"))
	}))
	defer srv.Close()
	set := metrics.NewSet()
	o := RemoteOptions{URL: strings.Replace(srv.URL, "http://", "http://u:p@", 1) + "/base/api/v1/write", Metrics: set}
	r := openRemote(t, nil, o)
	add := func() {
		t.Helper()
		if err := r.Insert(t.Context(), 1, one("p", "t", "m", storage.Sample{Property: "x", Time: time.Now().UnixMilli(), Value: 1})); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-seen:
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("no request, want %s", want)
		}
	}
	add()
	expect(`/base/api/v1/write u:p cookie=""`)
	// Overloaded: tried again. Refused: dropped and counted, the next one goes on.
	refuse.Store(http.StatusTooManyRequests)
	add()
	expect(`/base/api/v1/write u:p cookie=""`)
	refuse.Store(http.StatusBadRequest)
	add()
	refused := set.GetOrCreateCounter("pollux_history_refused_blocks_total")
	eventually(t, 30*time.Second, "a refusal is counted", func() bool { return refused.Get() == 1 })
	add()
	expect(`/base/api/v1/write u:p cookie=""`)
	// The caller's credentials stay here.
	req := httptest.NewRequest(http.MethodGet, "/victoria/prometheus/api/v1/labels", nil)
	req.Header.Set("Authorization", "Bearer mine")
	req.Header.Set("Cookie", "session=mine")
	r.Handler().ServeHTTP(httptest.NewRecorder(), req)
	expect(`/base/api/v1/labels u:p cookie=""`)
}

// TestRemoteQueueKept: what was not sent is there after a restart, also the block that was on its way.
func TestRemoteQueueKept(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.stop(syscall.SIGTERM)
	dir := t.TempDir()
	at := base()
	for i := range 3 {
		r := openRemote(t, s, RemoteOptions{Dir: dir})
		for k := range 4 {
			n := 4*i + k
			sample := storage.Sample{Property: "p", Time: at.UnixMilli() + int64(n), Value: float64(n)}
			if err := r.Insert(t.Context(), uint64(n+1), one("default", "t", "m", sample)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, 30*time.Second, "a try fails", func() bool { return r.sender.outage.Load() })
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if got := r.Durable(); got != uint64(4*i+4) {
			t.Errorf("closed and durable up to %d", got)
		}
	}
	s.start()
	r := openRemote(t, s, RemoteOptions{Dir: dir})
	q := Query{Project: "default", Twin: "t", Property: "p", Start: at, End: at.Add(time.Second)}
	eventually(t, 30*time.Second, "all shows", func() bool {
		r.flush()
		return len(query(t, r, q).Points) >= 12
	})
	if p := query(t, r, q).Points; len(p) != 12 {
		t.Errorf("got %d points, want 12: %v", len(p), p)
	}
}

func TestRemoteLockedQueue(t *testing.T) {
	dir := t.TempDir()
	openRemote(t, nil, RemoteOptions{URL: "http://127.0.0.1:1", Dir: dir})
	_, err := OpenRemote(RemoteOptions{URL: "http://127.0.0.1:1", Dir: dir, MemoryAllowedBytes: 64 << 20})
	if err == nil || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), filepath.Join(dir, queueName)) {
		t.Errorf("got %v", err)
	}
}

// TestRemoteLongLabels: requests stay small where labels are long.
func TestRemoteLongLabels(t *testing.T) {
	r := openRemote(t, nil, RemoteOptions{URL: "http://127.0.0.1:1"})
	long := strings.Repeat("x", maxLabel)
	samples := make([]storage.Sample, 20_000)
	for i := range samples {
		samples[i] = storage.Sample{Property: fmt.Sprintf("%d-%s", i, long[10:]), Time: time.Now().UnixMilli(), Value: 1}
	}
	if err := r.Insert(t.Context(), 1, one(long, long, long, samples...)); err != nil {
		t.Fatal(err)
	}
	if n := r.stats.samples.Get(); n != 20_000 {
		t.Errorf("%d samples are in the queue", n)
	}
	if n := cap(r.req.proto); n > 2*maxBlockLabels {
		t.Errorf("a request of %d bytes", n)
	}
}
