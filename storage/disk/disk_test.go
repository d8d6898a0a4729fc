package disk

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const mib = 1 << 20

// TestReserve goes down and up through the reserve.
func TestReserve(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		reserve, size int64
		free          []uint64 // MiB
		low           []bool
		warned        []bool
	}{
		{"large", 512 * mib, 100_000 * mib, []uint64{9000, 2047, 511, 513, 639, 640, 2048}, []bool{false, false, true, true, true, false, false},
			[]bool{false, true, true, true, true, true, false}},
		{"a tenth of a small one", 512 * mib, 1000 * mib, []uint64{500, 399, 100, 99, 124, 125}, []bool{false, false, false, true, true, false},
			[]bool{false, true, true, true, true, true}},
		{"none", 0, 1000 * mib, []uint64{0, 1}, []bool{false, false}, []bool{false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			usage := vfs.DiskUsage{AvailBytes: c.free[0] * mib, TotalBytes: uint64(c.size)}
			w, err := Open(Options{Dir: "/data", Node: "n1", Reserve: c.reserve, Logger: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
				Usage: func(string) (vfs.DiskUsage, error) { return usage, nil }})
			if err != nil {
				t.Fatal(err)
			}
			w.Close() // the test looks by itself
			for i, free := range c.free {
				usage.AvailBytes = free * mib
				if err := w.look(); err != nil {
					t.Fatal(err)
				}
				if err := w.Low(); (err != nil) != c.low[i] || err != nil && !errors.Is(err, ErrLow) {
					t.Errorf("%d MiB: %v", free, err)
				}
				if text := w.Warning(); (text != "") != c.warned[i] || text != "" && !strings.Contains(text, "node n1 has ") {
					t.Errorf("%d MiB: warning %q", free, text)
				}
			}
		})
	}
}

// TestRealDisk asks the operating system; a directory that is not there is an error.
func TestRealDisk(t *testing.T) {
	t.Parallel()
	o := Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet()}
	w, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if free, size := w.Room(); size == 0 || free > size {
		t.Errorf("%d of %d bytes are free", free, size)
	}
	o.Dir += "/nothing"
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), o.Dir) {
		t.Errorf("a directory that is not there: %v", err)
	}
}
