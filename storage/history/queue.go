package history

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/fasttime"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/persistentqueue"
	"github.com/VictoriaMetrics/metrics"
)

const (
	// queueName is written into the queue's state.
	queueName = "remote"
	// cleanFile stands in the queue's directory while it is closed in order.
	cleanFile = "clean"
)

// The first byte of a block says what it is.
const (
	blockSync   = 0 // nothing, or the index up to which all is before it; it makes the queue sync that
	blockSnappy = 1 // a remote write request, in snappy's block format
	blockMark   = 2 // a number, for who wants to know when all before it was sent
)

// queue is VictoriaMetrics' file queue with three promises more: it tells what has reached the disk; what has is there
// after a crash; and a block that was taken out and not acknowledged when the process died is handed out again.
//
// The file queue syncs data and its own state (both offsets) at its first operation of each second of its clock. So what
// was written in one second is on disk once an operation of a later second is done.
type queue struct {
	dir string
	fq  *persistentqueue.FastQueue

	mu      sync.Mutex
	pending []written // oldest first, one per second
	settled uint64    // the log's index up to which all is on disk
}

type written struct {
	index  uint64
	second uint64 // of the queue's clock, read after the write
}

func openQueue(dir string, maxBytes int64, log *slog.Logger) (*queue, error) {
	if err := checkDir(dir); err != nil {
		return nil, fmt.Errorf("open history queue: %w", err)
	}
	clean := filepath.Join(dir, "..", queueName+"."+cleanFile)
	if _, err := os.Stat(clean); errors.Is(err, fs.ErrNotExist) {
		if err := repair(dir); err != nil {
			log.Warn("history queue not repaired after a crash", "error", err)
		}
	}
	if err := os.Remove(clean); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open history queue: %w", err)
	}
	if err := syncDir(filepath.Dir(clean)); err != nil {
		return nil, fmt.Errorf("open history queue: %w", err)
	}
	q := &queue{dir: dir}
	err := guarded("open history queue", func() {
		// No blocks in memory: every block goes to the file.
		q.fq = persistentqueue.MustOpenFastQueue(dir, queueName, 0, maxBytes, false)
	})
	return q, err
}

// add appends a block. Everything up to index is in the queue with it; 0 for blocks that are not of the log.
func (q *queue) add(block []byte, index uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.write(block, index)
}

func (q *queue) write(block []byte, index uint64) error {
	before := fasttime.UnixTimestamp()
	if err := guarded("write history queue", func() { q.fq.TryWriteBlock(block) }); err != nil {
		return err
	}
	n := 0
	for n < len(q.pending) && q.pending[n].second < before {
		q.settled = max(q.settled, q.pending[n].index)
		n++
	}
	q.pending = append(q.pending[:0], q.pending[n:]...)
	if index == 0 {
		return nil
	}
	now := fasttime.UnixTimestamp()
	if n := len(q.pending); n > 0 && q.pending[n-1].second == now {
		q.pending[n-1].index = max(index, q.pending[n-1].index)
	} else {
		q.pending = append(q.pending, written{index, now})
	}
	return nil
}

// durable returns the index up to which all is on disk. What was written in an earlier second is made so.
func (q *queue) durable() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) > 0 && q.pending[0].second < fasttime.UnixTimestamp() {
		// An error is the next Insert's to tell.
		_ = q.write([]byte{blockSync}, 0)
	}
	return q.settled
}

// settle returns when what was added before is on the disk.
func (q *queue) settle(ctx context.Context) error {
	for second := fasttime.UnixTimestamp(); fasttime.UnixTimestamp() <= second; {
		if sleep(ctx, 50*time.Millisecond); ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return q.add([]byte{blockSync}, 0)
}

// take blocks until there is a block; false once unblocked and empty.
func (q *queue) take(dst []byte) ([]byte, bool, error) {
	ok := false
	err := guarded("read history queue", func() { dst, ok = q.fq.MustReadBlock(dst[:0]) })
	return dst, ok, err
}

// unblock ends take's waiting for good.
func (q *queue) unblock() { q.fq.UnblockAllReaders() }

func (q *queue) bytes() uint64 { return q.fq.GetPendingBytes() }

// dropped returns how many blocks were thrown away, the oldest, because the queue was full.
func (q *queue) dropped() uint64 {
	name := fmt.Sprintf(`vm_persistentqueue_blocks_dropped_total{path=%q, name=%q}`, q.dir, queueName)
	return metrics.GetOrCreateCounter(name).Get()
}

// close syncs everything. Nobody may use the queue any more. back, where not nil, is a block that was taken and not
// acknowledged.
func (q *queue) close(back []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	err := guarded("close history queue", func() {
		if back != nil {
			q.fq.MustWriteBlockIgnoreDisabledPQ(back)
		}
		q.fq.MustClose()
	})
	q.forgetMetrics()
	if err != nil {
		return err
	}
	for _, w := range q.pending {
		q.settled = max(q.settled, w.index)
	}
	q.pending = nil
	if err := writeSynced(filepath.Join(q.dir, "..", queueName+"."+cleanFile), nil); err != nil {
		return fmt.Errorf("close history queue: %w", err)
	}
	return nil
}

// forgetMetrics takes the closed queue's own metrics out of the process': they go on to look at its directory.
func (q *queue) forgetMetrics() {
	process.own.Lock()
	defer process.own.Unlock()
	path := fmt.Sprintf("path=%q", q.dir)
	for _, name := range metrics.ListMetricNames() {
		if strings.HasPrefix(name, "vm_persistentqueue_") && strings.Contains(name, path) {
			metrics.UnregisterMetric(name)
		}
	}
}

// queueState is the file queue's own state file.
type queueState struct {
	Name         string
	ReaderOffset uint64
	WriterOffset uint64
}

// repair mends a queue that was not closed. The writer's file is cut off where the state says that it ends: the library
// writes over what is behind, but a reader that has read ahead takes the old bytes for blocks. And the reader goes back
// by one block: the one that may have been on its way.
func repair(dir string) error {
	path := filepath.Join(dir, "metainfo.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var state queueState
	if err := json.Unmarshal(text, &state); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	file, end := chunk(dir, state.WriterOffset)
	if info, err := os.Stat(file); err != nil {
		return err
	} else if info.Size() > int64(end) {
		if err := os.Truncate(file, int64(end)); err != nil {
			return err
		}
	}
	file, end = chunk(dir, state.ReaderOffset)
	if end == 0 {
		return nil // the block before it was acknowledged: else its file were still the reader's
	}
	at, err := lastBlock(file, end)
	if err != nil {
		return err
	}
	state.ReaderOffset -= end - at
	if text, err = json.Marshal(state); err != nil {
		return err
	}
	return writeSynced(path, text)
}

// chunk returns the file that holds an offset of the queue, and where in it. A file holds blocks, each with its length
// in 8 bytes before it, and is named by its first offset.
func chunk(dir string, offset uint64) (file string, at uint64) {
	at = offset % persistentqueue.DefaultChunkFileSize
	return filepath.Join(dir, fmt.Sprintf("%016X", offset-at)), at
}

// lastBlock returns the offset of the block that ends at end.
func lastBlock(path string, end uint64) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	var head [8]byte
	for at := uint64(0); at < end; {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return 0, fmt.Errorf("%s at %d: %w", path, at, err)
		}
		size := binary.BigEndian.Uint64(head[:])
		if size > persistentqueue.MaxBlockSize {
			return 0, fmt.Errorf("%s at %d: block of %d bytes", path, at, size)
		}
		next := at + 8 + size
		if next == end {
			return at, nil
		}
		if _, err := r.Discard(int(size)); err != nil {
			return 0, fmt.Errorf("%s at %d: %w", path, at, err)
		}
		at = next
	}
	return 0, fmt.Errorf("%s: no block ends at %d", path, end)
}

// writeSynced writes a file whole or not at all.
func writeSynced(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
