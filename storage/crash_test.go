package storage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// journal is what the clients of a crash test were told, and what a reader of samples has taken over.
type journal struct {
	mu      sync.Mutex
	acked   map[string]string
	samples map[string]bool // acknowledged
	taken   map[string]bool // read before the cursor was set
}

func newJournal() *journal {
	return &journal{acked: map[string]string{}, samples: map[string]bool{}, taken: map[string]bool{}}
}

func (j *journal) clone() *journal {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := newJournal()
	for k, v := range j.acked {
		c.acked[k] = v
	}
	for k := range j.samples {
		c.samples[k] = true
	}
	for k := range j.taken {
		c.taken[k] = true
	}
	return c
}

func sampleName(twin string, v float64) string { return fmt.Sprintf("%s=%v", twin, v) }

func crashOptions(noSync bool) []storagetest.Option {
	return []storagetest.Option{
		storagetest.WithRaft(func(c *raft.Config) { c.TrailingLogs, c.SnapshotInterval = 8, time.Hour }),
		storagetest.WithStore(func(o *storage.Options) {
			o.NoSync = noSync
			o.MemTableBytes = 256 << 10 // so that flushes and compactions happen too
		}),
	}
}

// load writes until stop: each client its own keys, each value once, with a sample of the same number.
func (j *journal) load(s *storage.Store, run int, stop <-chan struct{}) *sync.WaitGroup {
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			twin := fmt.Sprintf("default/r%d-c%d", run, c)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				key, value := fmt.Sprintf("%s/%d", twin, i%50), fmt.Sprintf("%d-%0300d", i, i)
				_, err := s.Commit(context.Background(), &storage.Txn{
					Writes:  []storage.Write{{Table: "twin", Key: key, Value: []byte(value), Quiet: i%3 != 0}},
					Samples: []storage.TwinSamples{{Project: "default", Twin: twin, Model: "m", Samples: []storage.Sample{{Property: "p", Time: int64(i), Value: float64(i)}}}},
				})
				if err != nil {
					return // the store closes
				}
				j.mu.Lock()
				j.acked[key] = value
				j.samples[sampleName(twin, float64(i))] = true
				j.mu.Unlock()
			}
		}()
	}
	return &wg
}

// feed takes samples over as a history does: read, keep, then say so.
func (j *journal) feed(s *storage.Store) error {
	last, err := s.ReadSamples(s.SampleCursor(), func(_ uint64, all []storage.TwinSamples) error {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.take(all)
		return nil
	})
	if err != nil {
		return err
	}
	return s.SetSampleCursor(last)
}

func (j *journal) take(all []storage.TwinSamples) {
	for _, t := range all {
		for _, x := range t.Samples {
			j.taken[sampleName(t.Twin, x.Value)] = true
		}
	}
}

// missing says how much of what was acknowledged a store does not have.
func (j *journal) missing(t *testing.T, s *storage.Store) (records, samples int) {
	t.Helper()
	for key, value := range j.acked {
		rec, ok, err := s.Get("twin", key)
		if err != nil {
			t.Fatal(err)
		}
		// A later value, that was not acknowledged yet, may be there.
		var have, want int
		_, _ = fmt.Sscan(string(rec.Value), &have)
		_, _ = fmt.Sscan(value, &want)
		if !ok || have < want {
			records++
		}
	}
	if _, err := s.ReadSamples(s.SampleCursor(), func(_ uint64, all []storage.TwinSamples) error {
		j.take(all)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name := range j.samples {
		if !j.taken[name] {
			samples++
		}
	}
	return records, samples
}

// crashes runs load on a file system that forgets, and opens what is left after each crash.
func crashes(t *testing.T, noSync bool, rounds int) (records, samples, checked int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	j := newJournal()
	fs := vfs.NewCrashableMem()
	for round := range rounds {
		n, err := storagetest.Open("store", fs, crashOptions(noSync)...)
		if err != nil {
			if noSync {
				return records + 1, samples, checked // too much is gone even to open it
			}
			t.Fatalf("round %d: %v", round, err)
		}
		r, sm := j.missing(t, n.Store)
		records, samples, checked = records+r, samples+sm, checked+len(j.acked)+len(j.samples)
		if r+sm > 0 {
			// What is lost shows nothing more in the rounds after.
			defer func() { _ = n.Close() }()
			t.Logf("round %d: %d of %d records and %d of %d samples are missing", round, r, len(j.acked), sm, len(j.samples))
			return records, samples, checked
		}
		stop := make(chan struct{})
		clients := j.load(n.Store, round, stop)
		var kept *journal
		var left *vfs.MemFS
		for steps := 1 + rng.IntN(3); steps > 0; steps-- {
			time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
			if !noSync && rng.IntN(2) == 0 {
				if err := j.feed(n.Store); err != nil {
					t.Fatal(err)
				}
			}
			if !noSync && rng.IntN(2) == 0 {
				snapshot(t, n)
			}
			// What is acknowledged before the crash must be there after it.
			kept = j.clone()
			left = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(2) * rng.IntN(101), RNG: rng})
		}
		close(stop)
		clients.Wait()
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		j, fs = kept, left
	}
	return records, samples, checked
}

func TestAcknowledgedSurvivesPowerLoss(t *testing.T) {
	records, samples, checked := crashes(t, false, 15)
	if records+samples > 0 {
		t.Errorf("%d records and %d samples are lost", records, samples)
	}
	if checked < 1000 {
		t.Errorf("only %d were checked", checked)
	}
}

// The same check without fsync must see a loss, or it sees nothing.
func TestPowerLossWithoutSyncIsSeen(t *testing.T) {
	records, samples, _ := crashes(t, true, 4)
	if records+samples == 0 {
		t.Error("nothing was lost without fsync: the check is blind")
	}
}
