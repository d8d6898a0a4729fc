package history

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/storage"
)

// embeddedTurn is held by the test that uses this process' VictoriaMetrics.
var embeddedTurn sync.Mutex

// takeTurn lets a test run beside those that need no embedded VictoriaMetrics.
func takeTurn(t *testing.T) {
	t.Parallel()
	embeddedTurn.Lock()
	t.Cleanup(embeddedTurn.Unlock)
}

func openEmbedded(t testing.TB, o Options) *Embedded {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "vm")
	}
	if o.MemoryAllowedBytes == 0 {
		o.MemoryAllowedBytes = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = testLogger(t)
		t.Cleanup(func() { process.log.Store(nil) }) // its goroutines may log after the test
	}
	e, err := OpenEmbedded(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return e
}

func TestEmbedded(t *testing.T) {
	takeTurn(t)
	set := metrics.NewSet()
	e := openEmbedded(t, Options{Metrics: set})
	testHistory(t, e)
	for name, want := range map[string]uint64{"nan": 1, "too_old": 1, "in_the_future": 1, "bad_label": 3} {
		if got := set.GetOrCreateCounter(`pollux_history_dropped_samples_total{reason="` + name + `"}`).Get(); got != want {
			t.Errorf("%s: counted %d drops, want %d", name, got, want)
		}
	}
}

func TestEmbeddedRefusesOptions(t *testing.T) {
	takeTurn(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for field, o := range map[string]Options{
		"Dir":                {},
		"Retention":          {Dir: dir, Retention: time.Hour},
		"Retention 1":        {Dir: dir, Retention: 2 * MaxRetention},
		"MemoryAllowedBytes": {Dir: dir, MemoryAllowedBytes: 1},
		// More than any machine has: VictoriaMetrics would end the process.
		"MemoryAllowedBytes 1": {Dir: dir, MemoryAllowedBytes: 1 << 60},
		"FlushInterval":        {Dir: dir, FlushInterval: time.Millisecond},
		"Settle":               {Dir: dir, Settle: time.Second},
		"file":                 {Dir: filepath.Join(file, "below")},
	} {
		e, err := OpenEmbedded(o)
		if err == nil {
			e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), strings.Fields(field)[0]) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestEmbeddedOnlyOne(t *testing.T) {
	takeTurn(t)
	e := openEmbedded(t, Options{})
	if _, err := OpenEmbedded(Options{Dir: t.TempDir()}); !errors.Is(err, ErrOpen) {
		t.Errorf("second open: got %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second close: got %v", err)
	}
	if err := e.Insert(t.Context(), 1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("insert after close: got %v", err)
	}
	if _, err := e.Query(t.Context(), Query{Project: "a", Twin: "b", Property: "c", Start: base(), End: base()}); !errors.Is(err, ErrClosed) {
		t.Errorf("query after close: got %v", err)
	}
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/victoria/api/v1/labels", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("request after close: status %d", w.Code)
	}
}

func TestEmbeddedLockedDir(t *testing.T) {
	takeTurn(t)
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "flock.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenEmbedded(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("got %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("the directory was touched: %v, %v", left, err)
	}
}

// TestEmbeddedReopen: what was inserted is there after a close, and another directory has nothing of it.
func TestEmbeddedReopen(t *testing.T) {
	takeTurn(t)
	dir := filepath.Join(t.TempDir(), "vm")
	at := base()
	q := Query{Project: "default", Twin: "t", Property: "p", Start: at, End: at.Add(time.Hour)}
	for i := range 3 {
		e := openEmbedded(t, Options{Dir: dir})
		eventually(t, 30*time.Second, "samples of before", func() bool { return len(query(t, e, q).Points) == i })
		s := storage.Sample{Property: "p", Time: at.UnixMilli() + int64(i), Value: 1}
		if err := e.Insert(t.Context(), uint64(i+1), one("default", "t", "m", s)); err != nil {
			t.Fatal(err)
		}
		if e.Durable() != 0 {
			t.Error("durable at once")
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if got := e.Durable(); got != uint64(i+1) {
			t.Errorf("closed and durable up to %d", got)
		}
	}
	e := openEmbedded(t, Options{})
	if r := query(t, e, q); len(r.Points) != 0 {
		t.Errorf("another directory has %v", r.Points)
	}
}
