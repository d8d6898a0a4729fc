package storage_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// Each benchmark stands beside floors of the same run: raft itself with one voter on the same log (the same Pebble,
// fsync, payload and machine), once with a state machine that does nothing, and once with one that puts the records into
// Pebble and knows no revisions, guards, results or de-duplication. The three take turns, so that a busy machine is busy
// for all of them.

// floorFSM puts records into db where there is one.
type floorFSM struct{ db *pebble.DB }

func (f *floorFSM) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

func (f *floorFSM) ApplyBatch(logs []*raft.Log) []any {
	if f.db != nil {
		b := f.db.NewBatch()
		for _, l := range logs {
			if l.Type != raft.LogCommand {
				continue
			}
			for d := l.Data; len(d) > 0; {
				k, v := int(d[0]), int(binary.LittleEndian.Uint16(d[1:]))
				if err := b.Set(d[3:3+k], d[3+k:3+k+v], nil); err != nil {
					panic(err)
				}
				d = d[3+k+v:]
			}
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			panic(err)
		}
	}
	return make([]any, len(logs))
}

func (*floorFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, io.ErrUnexpectedEOF }
func (*floorFSM) Restore(io.ReadCloser) error         { return io.ErrUnexpectedEOF }

type silent struct{}

func (silent) Infof(string, ...any)         {}
func (silent) Errorf(string, ...any)        {}
func (silent) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

// appendRecord encodes what floorFSM takes.
func appendRecord(b []byte, key string, value []byte) []byte {
	b = append(b, byte(len(key)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	b = append(b, key...)
	return append(b, value...)
}

func benchRaft(c *raft.Config) { c.SnapshotThreshold = 1 << 40 }

func openFloor(b *testing.B, state bool) (*raft.Raft, func()) {
	dir := b.TempDir()
	s, err := storage.Open(storage.Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	fsm := &floorFSM{}
	if state {
		o := &pebble.Options{MemTableSize: 32 << 20, MemTableStopWritesThreshold: 4, DisableWAL: true, FormatMajorVersion: pebble.FormatNewest, Logger: silent{}}
		if fsm.db, err = pebble.Open(filepath.Join(dir, "floor"), o); err != nil {
			b.Fatal(err)
		}
	}
	c := raft.DefaultConfig()
	c.LocalID = "n1"
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
	c.BatchApplyCh = true
	c.Logger = hclog.NewNullLogger()
	benchRaft(c)
	addr, trans := raft.NewInmemTransport("")
	self := raft.Configuration{Servers: []raft.Server{{ID: c.LocalID, Address: addr}}}
	if err := raft.BootstrapCluster(c, s.LogStore(), s.StableStore(), s.SnapshotStore(), trans, self); err != nil {
		b.Fatal(err)
	}
	r, err := raft.NewRaft(c, fsm, s.LogStore(), s.StableStore(), s.SnapshotStore(), trans)
	if err != nil {
		b.Fatal(err)
	}
	for r.State() != raft.Leader {
		time.Sleep(time.Millisecond)
	}
	return r, func() {
		if err := r.Shutdown().Error(); err != nil {
			b.Error(err)
		}
		if err := s.Close(); err != nil {
			b.Error(err)
		}
		if fsm.db != nil {
			if err := fsm.db.Close(); err != nil {
				b.Error(err)
			}
		}
	}
}

func openBench(b *testing.B) (*storage.Store, func()) {
	n, err := storagetest.Open(b.TempDir(), nil, storagetest.WithRaft(benchRaft),
		storagetest.WithStore(func(o *storage.Options) { o.MemTableBytes = 0 }))
	if err != nil {
		b.Fatal(err)
	}
	return n.Store, func() {
		if err := n.Close(); err != nil {
			b.Error(err)
		}
	}
}

const (
	benchValue  = 100 // bytes of a record's value
	benchRounds = 3
)

var benchKeys = func() []string {
	keys := make([]string, 100_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("default/twin-%06d", i)
	}
	return keys
}()

// each runs n operations on the clients and gives the time they took.
func each(b *testing.B, clients, n int, op func(i int) error) time.Duration {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if err := op(i); err != nil {
					b.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	return time.Since(start)
}

// compare lets ours and the floors take turns with n operations each.
func compare(b *testing.B, unit string, ours func(n int) time.Duration, floor func(n int, state bool) time.Duration) {
	n := max(1, b.N/benchRounds)
	var took [3]time.Duration
	b.ResetTimer()
	for range benchRounds {
		took[0] += floor(n, false)
		took[1] += floor(n, true)
		took[2] += ours(n)
	}
	b.StopTimer()
	rate := func(d time.Duration) float64 { return float64(benchRounds*n) / d.Seconds() }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rate(took[2]), unit+"/s")
	b.ReportMetric(rate(took[0]), "raft-"+unit+"/s")
	b.ReportMetric(rate(took[1]), "raft+pebble-"+unit+"/s")
	b.ReportMetric(rate(took[2])/rate(took[0]), "of-raft")
	b.ReportMetric(rate(took[2])/rate(took[1]), "of-raft+pebble")
}

// BenchmarkCommit: 64 clients, each waiting for its own transaction of one guarded write.
func BenchmarkCommit(b *testing.B) {
	const clients = 64
	value := make([]byte, benchValue)
	compare(b, "commits", func(n int) time.Duration {
		s, done := openBench(b)
		defer done()
		mustCommit(b, s, put("slot", "1", "owner"))
		return each(b, clients, n, func(i int) error {
			_, err := s.Commit(b.Context(), &storage.Txn{
				Guards: []storage.Guard{{Table: "slot", Key: "1", Equal: []byte("owner")}},
				Writes: []storage.Write{{Table: "twin", Key: benchKeys[i%len(benchKeys)], Value: value, Quiet: true}},
			})
			return err
		})
	}, func(n int, state bool) time.Duration {
		r, done := openFloor(b, state)
		defer done()
		return each(b, clients, n, func(i int) error {
			return r.Apply(appendRecord(nil, benchKeys[i%len(benchKeys)], value), 0).Error()
		})
	})
}

// BenchmarkSubmit: transactions of one guarded write stream in; the floors take the same records in entries of 500.
func BenchmarkSubmit(b *testing.B) { benchSubmit(b, false) }

// BenchmarkSubmitSamples: the same with two samples each; the floors have none.
func BenchmarkSubmitSamples(b *testing.B) { benchSubmit(b, true) }

func benchSubmit(b *testing.B, samples bool) {
	const batch = 500
	value := make([]byte, benchValue)
	compare(b, "records", func(n int) time.Duration {
		s, done := openBench(b)
		defer done()
		mustCommit(b, s, put("slot", "1", "owner"))
		return stream(b, s, n, value, samples)
	}, func(n int, state bool) time.Duration {
		r, done := openFloor(b, state)
		defer done()
		took := each(b, 8, max(1, n/batch), func(i int) error {
			entry := make([]byte, 0, batch*(benchValue+32))
			for k := range batch {
				entry = appendRecord(entry, benchKeys[(i*batch+k)%len(benchKeys)], value)
			}
			return r.Apply(entry, 0).Error()
		})
		return took * time.Duration(n) / time.Duration(max(1, n/batch)*batch)
	})
}

// stream submits n transactions from two goroutines and waits for their results.
func stream(b *testing.B, s *storage.Store, n int, value []byte, samples bool) time.Duration {
	var wg sync.WaitGroup
	var failed atomic.Int64
	done := func(r storage.Result) {
		if r.Err != nil {
			failed.Add(1)
		}
		wg.Done()
	}
	now := time.Now()
	for c := range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			txn := &storage.Txn{Guards: []storage.Guard{{Table: "slot", Key: "1", Equal: []byte("owner")}}, Writes: make([]storage.Write, 1)}
			if samples {
				txn.Samples = []storage.TwinSamples{{Project: "default", Model: "tasmota", Samples: make([]storage.Sample, 2)}}
			}
			for i := c; i < n; i += 2 {
				key := benchKeys[i%len(benchKeys)]
				txn.Writes[0] = storage.Write{Table: "twin", Key: key, Value: value, Quiet: true}
				if samples {
					at := now.UnixMilli() + int64(i/100)
					txn.Samples[0].Twin = key
					txn.Samples[0].Samples[0] = storage.Sample{Property: "temperature", Time: at, Value: 20 + float64(i%50)/10}
					txn.Samples[0].Samples[1] = storage.Sample{Property: "power", Time: at, Value: float64(i * 7 % 1000)}
				}
				wg.Add(1)
				for s.Submit(txn, done) != nil {
					time.Sleep(200 * time.Microsecond)
				}
			}
		}()
	}
	wg.Wait()
	took := time.Since(now)
	if n := failed.Load(); n > 0 {
		b.Errorf("%d transactions failed", n)
	}
	return took
}

// BenchmarkCommitAtSaturation: what one who waits for small transactions sees while the store is given all it takes.
func BenchmarkCommitAtSaturation(b *testing.B) {
	s, done := openBench(b)
	defer done()
	mustCommit(b, s, put("slot", "1", "owner"))
	stop := make(chan struct{})
	var took []float64
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			start := time.Now()
			if _, err := s.Commit(b.Context(), &storage.Txn{Writes: []storage.Write{put("small", benchKeys[i%100], "v")}}); err != nil {
				b.Error(err)
				return
			}
			took = append(took, float64(time.Since(start).Microseconds())/1000)
		}
	}()
	b.ResetTimer()
	all := stream(b, s, b.N, make([]byte, benchValue), true)
	b.StopTimer()
	close(stop)
	wg.Wait()
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(b.N)/all.Seconds(), "records/s")
	b.ReportMetric(took[len(took)/2], "p50-ms")
	b.ReportMetric(took[len(took)*99/100], "p99-ms")
	b.ReportMetric(took[len(took)-1], "max-ms")
}
