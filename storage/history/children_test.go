package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/storage"
)

// Children are killed, and what they acknowledged before is compared with what history has afterwards. What they
// acknowledged is what their journal has: an entry's append returns when it is synced.

// loadBatch is the i-th entry of the load: samples of some twins, each with its own time and value.
func loadBatch(i int) []storage.TwinSamples {
	now := time.Now().UnixMilli()
	var batch []storage.TwinSamples
	for k := range 5 {
		batch = append(batch, storage.TwinSamples{Project: "default", Twin: "twin-" + strconv.Itoa((i+k)%10), Model: "m", Samples: []storage.Sample{
			{Property: "power", Time: now, Value: float64(i%7) / 4},
			{Property: "n", Time: now, Value: float64(i)},
		}})
	}
	return batch
}

// runLoad appends entries until the process dies. A pause of a few milliseconds keeps times of a series apart.
func runLoad(j *journal) error {
	for i := int(j.AppliedIndex()); ; i += 3 {
		if err := j.append(loadBatch(i), nil, loadBatch(i+5)); err != nil {
			return err
		}
		time.Sleep(3 * time.Millisecond)
	}
}

func childOptions() (dir string, log *slog.Logger) {
	return os.Getenv("DIR"), slog.New(slog.NewTextHandler(os.Stderr, nil))
}

// childFeed runs load into an embedded VictoriaMetrics.
func childFeed() error {
	dir, log := childOptions()
	j, err := openJournal(filepath.Join(dir, "journal"))
	if err != nil {
		return err
	}
	e, err := OpenEmbedded(Options{Dir: filepath.Join(dir, "vm"), FlushInterval: time.Second, Settle: killSettle, MemoryAllowedBytes: 64 << 20, Logger: log})
	if err != nil {
		return err
	}
	var sink Sink = e
	if os.Getenv("EAGER") != "" {
		sink = &eager{Sink: e}
	}
	Feed(context.Background(), j, sink, FeedOptions{CursorInterval: 50 * time.Millisecond, Linger: 10 * time.Millisecond, Logger: log})
	return runLoad(j)
}

// killSettle is enough for the flush interval of the test, and short enough for the cursor to move in it.
const killSettle = 8 * time.Second

// eager is wrong: it takes for durable what is inserted.
type eager struct {
	Sink
	last atomic.Uint64
}

func (s *eager) Insert(ctx context.Context, index uint64, samples []storage.TwinSamples) error {
	s.last.Store(index)
	return s.Sink.Insert(ctx, index, samples)
}

func (s *eager) Durable() uint64 { return s.last.Load() }

// childRemote runs load into the queue of an external server.
func childRemote() error {
	dir, log := childOptions()
	j, err := openJournal(filepath.Join(dir, "journal"))
	if err != nil {
		return err
	}
	r, err := OpenRemote(RemoteOptions{URL: os.Getenv("URL"), Dir: filepath.Join(dir, "queue"), Logger: log})
	if err != nil {
		return err
	}
	Feed(context.Background(), j, r, FeedOptions{CursorInterval: 50 * time.Millisecond, Linger: 10 * time.Millisecond, Logger: log})
	return runLoad(j)
}

// childFill fills a queue, takes two blocks of it, and waits to be killed with the second on its way.
func childFill() error {
	dir, log := childOptions()
	if err := prepare(log, 64<<20, nil); err != nil {
		return err
	}
	q, err := openQueue(filepath.Join(dir, queueName), DefaultQueueBytes, log)
	if err != nil {
		return err
	}
	for i := range 5 {
		if err := q.add([]byte(fmt.Sprintf("block %d", i)), uint64(i+1)); err != nil {
			return err
		}
	}
	for range 2 {
		if _, ok, err := q.take(nil); err != nil || !ok {
			return errors.Join(errors.New("no block"), err)
		}
	}
	for q.durable() < 5 {
		time.Sleep(10 * time.Millisecond)
	}
	// The state on disk says now that both were read.
	if err := os.WriteFile(filepath.Join(dir, "filled"), nil, 0o600); err != nil {
		return err
	}
	select {}
}
