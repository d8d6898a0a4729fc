package history

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

func openTestQueue(t *testing.T, dir string, max int64) *queue {
	t.Helper()
	log := testLogger(t)
	process.mu.Lock()
	err := prepare(log, 64<<20, nil)
	process.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { process.log.Store(nil) })
	q, err := openQueue(filepath.Join(dir, queueName), max, log)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// takeAll takes what is there, without the blocks that only sync.
func takeAll(t *testing.T, q *queue) []string {
	t.Helper()
	var blocks []string
	for q.bytes() > 0 {
		b, ok, err := q.take(nil)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if b[0] != blockSync {
			blocks = append(blocks, string(b))
		}
	}
	return blocks
}

func TestQueueDurable(t *testing.T) {
	dir := t.TempDir()
	q := openTestQueue(t, dir, DefaultQueueBytes)
	for i := range uint64(3) {
		if err := q.add([]byte("x"), 10*(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 30*time.Second, "all is on disk", func() bool { return q.durable() == 30 })
	if err := q.add([]byte("y"), 40); err != nil {
		t.Fatal(err)
	}
	if got := q.durable(); got >= 40 {
		t.Errorf("durable up to %d at once", got)
	}
	if err := q.close([]byte("back")); err != nil {
		t.Fatal(err)
	}
	if got := q.durable(); got != 40 {
		t.Errorf("closed and durable up to %d", got)
	}
	q = openTestQueue(t, dir, DefaultQueueBytes)
	if got, want := takeAll(t, q), []string{"x", "x", "x", "y", "back"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := q.close(nil); err != nil {
		t.Fatal(err)
	}
	q = openTestQueue(t, dir, DefaultQueueBytes)
	if got := takeAll(t, q); len(got) > 0 {
		t.Errorf("taken and closed in order, got %q again", got)
	}
	if err := q.close(nil); err != nil {
		t.Fatal(err)
	}
}

// TestQueueKilled: the block that was on its way is handed out again, and nothing before it.
func TestQueueKilled(t *testing.T) {
	dir := t.TempDir()
	cmd := child(t, "fill", "DIR="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the queue is filled", func() bool { _, err := os.Stat(filepath.Join(dir, "filled")); return err == nil })
	stop(cmd, syscall.SIGKILL)
	// Bytes that never counted, as a crash between data and state leaves them.
	file, _ := chunk(filepath.Join(dir, queueName), 0)
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Repeat([]byte{0xff}, 5000)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	q := openTestQueue(t, dir, DefaultQueueBytes)
	first, ok, err := q.take(nil)
	if err != nil || !ok || string(first) != "block 1" {
		t.Errorf("first block is %q, %v, %v", first, ok, err)
	}
	if err := q.add([]byte("new"), 6); err != nil {
		t.Fatal(err)
	}
	if got, want := takeAll(t, q), []string{"block 2", "block 3", "block 4", "new"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := q.close(nil); err != nil {
		t.Fatal(err)
	}
}

func TestQueueFull(t *testing.T) {
	q := openTestQueue(t, t.TempDir(), 10_000)
	for i := range 30 {
		if err := q.add(fmt.Appendf(nil, "%1000d", i), uint64(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	got := takeAll(t, q)
	if n := len(got); n == 0 || n > 10 || got[n-1] != fmt.Sprintf("%1000d", 29) {
		t.Errorf("%d blocks are left", n)
	}
	if want := uint64(30 - len(got)); q.dropped() != want {
		t.Errorf("%d dropped are counted, want %d", q.dropped(), want)
	}
	if err := q.close(nil); err != nil {
		t.Fatal(err)
	}
}

func TestLastBlock(t *testing.T) {
	var file []byte
	var ends []uint64
	for _, n := range []int{1, 0, 70_000, 5} {
		file = binary.BigEndian.AppendUint64(file, uint64(n))
		file = append(file, make([]byte, n)...)
		ends = append(ends, uint64(len(file)))
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	start := uint64(0)
	for _, end := range ends {
		if got, err := lastBlock(path, end); err != nil || got != start {
			t.Errorf("block that ends at %d: got %d, %v, want %d", end, got, err, start)
		}
		start = end
	}
	for _, end := range []uint64{3, ends[3] - 1, ends[3] + 1, 1 << 40} {
		if got, err := lastBlock(path, end); err == nil {
			t.Errorf("no block ends at %d: got %d", end, got)
		}
	}
}
