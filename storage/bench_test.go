package storage_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// The floor of every benchmark here is raft itself with one voter on the same log (the same Pebble, fsync, payload and
// machine), and a state machine that does nothing.

type emptyFSM struct{}

func (emptyFSM) Apply(l *raft.Log) any { return nil }
func (emptyFSM) ApplyBatch(l []*raft.Log) []any {
	return make([]any, len(l))
}
func (emptyFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, io.ErrUnexpectedEOF }
func (emptyFSM) Restore(io.ReadCloser) error         { return io.ErrUnexpectedEOF }

func benchRaft(c *raft.Config) {
	c.MaxAppendEntries = 64
	c.SnapshotThreshold = 1 << 40
}

func openFloor(b *testing.B) *raft.Raft {
	s, err := storage.Open(storage.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	c := raft.DefaultConfig()
	c.LocalID = "n1"
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	c.BatchApplyCh = true
	c.Logger = hclog.NewNullLogger()
	benchRaft(c)
	addr, trans := raft.NewInmemTransport("")
	self := raft.Configuration{Servers: []raft.Server{{ID: c.LocalID, Address: addr}}}
	if err := raft.BootstrapCluster(c, s.LogStore(), s.StableStore(), s.SnapshotStore(), trans, self); err != nil {
		b.Fatal(err)
	}
	r, err := raft.NewRaft(c, emptyFSM{}, s.LogStore(), s.StableStore(), s.SnapshotStore(), trans)
	if err != nil {
		b.Fatal(err)
	}
	for r.State() != raft.Leader {
		time.Sleep(time.Millisecond)
	}
	b.Cleanup(func() {
		if err := r.Shutdown().Error(); err != nil {
			b.Error(err)
		}
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return r
}

func openBench(b *testing.B) *storage.Store {
	return storagetest.OpenSingle(b, b.TempDir(), nil, storagetest.WithRaft(benchRaft),
		storagetest.WithStore(func(o *storage.Options) { o.MemTableBytes = 0 }))
}

const benchValue = 100 // bytes

// each runs n operations on the clients and gives their rate.
func each(b *testing.B, clients int, n int, op func(client, i int) error) float64 {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for c := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				i := next.Add(1)
				if i > int64(n) {
					return
				}
				if err := op(c, int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	return float64(n) / time.Since(start).Seconds()
}

func report(b *testing.B, unit string, ours, floor float64) {
	b.ReportMetric(ours, unit+"/s")
	b.ReportMetric(floor, "floor-"+unit+"/s")
	b.ReportMetric(ours/floor, "ratio")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkCommit: 64 clients, each waiting for its own transaction of one guarded write.
func BenchmarkCommit(b *testing.B) {
	const clients = 64
	floor := func() float64 {
		r := openFloor(b)
		return each(b, clients, b.N, func(c, i int) error {
			entry := make([]byte, benchValue+40)
			binary.BigEndian.PutUint64(entry, uint64(i))
			return r.Apply(entry, 0).Error()
		})
	}()
	s := openBench(b)
	fence := mustCommit(b, s, put("slot", "1", "owner"))
	_ = fence
	value := make([]byte, benchValue)
	ctx := b.Context()
	b.ResetTimer()
	ours := each(b, clients, b.N, func(c, i int) error {
		_, err := s.Commit(ctx, &storage.Txn{
			Guards: []storage.Guard{{Table: "slot", Key: "1", Equal: []byte("owner")}},
			Writes: []storage.Write{{Table: "twin", Key: fmt.Sprintf("default/twin-%06d", i%100000), Value: value, Quiet: true}},
		})
		return err
	})
	b.StopTimer()
	report(b, "commits", ours, floor)
}

// BenchmarkSubmit: transactions of one write stream in; the floor takes the same bytes in entries of 500.
func BenchmarkSubmit(b *testing.B) { benchSubmit(b, false) }

// BenchmarkSubmitSamples: the same with two samples each; the floor carries the state's bytes alone.
func BenchmarkSubmitSamples(b *testing.B) { benchSubmit(b, true) }

func benchSubmit(b *testing.B, samples bool) {
	const batch = 500
	floor := func() float64 {
		r := openFloor(b)
		rate := each(b, 8, max(1, b.N/batch), func(c, i int) error {
			return r.Apply(make([]byte, batch*(benchValue+40)), 0).Error()
		})
		return rate * batch
	}()
	s := openBench(b)
	mustCommit(b, s, put("slot", "1", "owner"))
	value := make([]byte, benchValue)
	keys := make([]string, 100000)
	for i := range keys {
		keys[i] = fmt.Sprintf("default/twin-%06d", i)
	}
	var wg sync.WaitGroup
	var failed, retries atomic.Int64
	done := func(r storage.Result) {
		if r.Err != nil {
			failed.Add(1)
		}
		wg.Done()
	}
	owner := []byte("owner")
	now := time.Now().UnixMilli()
	b.ResetTimer()
	start := time.Now()
	for c := range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			txn := &storage.Txn{Guards: []storage.Guard{{Table: "slot", Key: "1", Equal: owner}}, Writes: make([]storage.Write, 1)}
			if samples {
				txn.Samples = []storage.TwinSamples{{Project: "default", Model: "tasmota", Samples: make([]storage.Sample, 2)}}
			}
			for i := c; i < b.N; i += 2 {
				key := keys[i%len(keys)]
				txn.Writes[0] = storage.Write{Table: "twin", Key: key, Value: value, Quiet: true}
				if samples {
					txn.Samples[0].Twin = key[8:]
					at := now + int64(i/100)
					txn.Samples[0].Samples[0] = storage.Sample{Property: "temperature", Time: at, Value: 20 + float64(i%50)/10}
					txn.Samples[0].Samples[1] = storage.Sample{Property: "power", Time: at, Value: float64(i * 7 % 1000)}
				}
				wg.Add(1)
				for s.Submit(txn, done) != nil {
					retries.Add(1)
					time.Sleep(200 * time.Microsecond)
				}
			}
		}()
	}
	wg.Wait()
	ours := float64(b.N) / time.Since(start).Seconds()
	b.StopTimer()
	if n := failed.Load(); n > 0 {
		b.Errorf("%d transactions failed", n)
	}
	report(b, "records", ours, floor)
}
