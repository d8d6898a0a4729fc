package history

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/test/harness"
)

// fullCode is with what childFull ends where it was told.
const fullCode = 3

// childFull fills the disk under what VictoriaMetrics still has to write, and ends as a node does.
func childFull() error {
	dir, _ := childOptions()
	e, err := OpenEmbedded(Options{Dir: filepath.Join(dir, "vm"), FlushInterval: time.Second, Settle: 3 * time.Second, MemoryAllowedBytes: 32 << 20,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Fatal: func(err error) {
			fmt.Fprintln(os.Stderr, "the node cannot go on:", err)
			os.Exit(fullCode)
		}})
	if err != nil {
		return err
	}
	batch := make([]storage.TwinSamples, 0, 1000)
	for i := range 200 {
		batch = batch[:0]
		now := time.Now().UnixMilli()
		for k := range 1000 {
			batch = append(batch, one("p", "twin-"+strconv.Itoa(k), "m", storage.Sample{Property: "v", Time: now - int64(i), Value: rand.Float64()})...)
		}
		if err := e.Insert(context.Background(), uint64(i+1), batch); err != nil {
			return err
		}
	}
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		return err
	}
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
	time.Sleep(time.Minute)
	return fmt.Errorf("the disk is full, and nobody is told")
}

// TestFullDisk: VictoriaMetrics' own goroutines end the process when the disk is full; people get one line of it.
func TestFullDisk(t *testing.T) {
	takeTurn(t)
	dir := harness.SmallDisk(t, "128m")
	var out bytes.Buffer
	cmd := child(t, "full", "DIR="+dir)
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != fullCode {
		t.Fatalf("it ended with %d (%v): %.2000s", code, err, out.String())
	}
	if text := out.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "write history: the disk is full; make room and start again: ") {
		t.Errorf("it said %q", text)
	}
	// With room again all goes on.
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	e, err := OpenEmbedded(Options{Dir: filepath.Join(dir, "vm"), MemoryAllowedBytes: 64 << 20, Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestOwnMetrics: a node shows VictoriaMetrics' metrics beside its own, each once; and without them while it is closed.
func TestOwnMetrics(t *testing.T) {
	takeTurn(t)
	set := metrics.NewSet()
	set.GetOrCreateCounter("pollux_some_total").Inc()
	gather := func() string {
		var b bytes.Buffer
		GatherNode(set)(&b)
		return b.String()
	}
	e, err := OpenEmbedded(Options{Dir: t.TempDir(), MemoryAllowedBytes: 64 << 20, Logger: testLogger(t), Metrics: set})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Insert(t.Context(), 1, one("p", "t", "m", storage.Sample{Property: "v", Time: base().UnixMilli(), Value: 1})); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(gather()) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		series := line[:strings.LastIndexByte(line, ' ')]
		if seen[series] {
			t.Errorf("%s is there twice", series)
		}
		seen[series] = true
	}
	for _, want := range []string{"pollux_some_total", "process_resident_memory_bytes", `vm_rows{type="storage/inmemory"}`, `vm_rows_added_to_storage_total`} {
		if !seen[want] {
			t.Errorf("%s is missing", want)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if text := gather(); strings.Contains(text, "vm_rows{") || !strings.Contains(text, "process_resident_memory_bytes") {
		t.Errorf("closed, it shows %.300s", text)
	}
}
