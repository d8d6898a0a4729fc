package storage_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

func TestSamplesComeBack(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	var want []storage.TwinSamples
	for i := range 50 {
		all := []storage.TwinSamples{
			{Project: "default", Twin: fmt.Sprintf("default/a%d", i), Model: "tasmota", Samples: []storage.Sample{
				{Property: "temperature", Time: 1_700_000_000_000 + int64(i), Value: 20.5 + float64(i)/10},
				{Property: "power", Time: 1_700_000_000_000 - int64(i), Value: float64(i % 2)},
				{Property: "odd", Time: -5, Value: math.Inf(-1)},
			}},
			{Project: "p", Twin: "p/b", Model: "", Samples: []storage.Sample{{Property: "", Time: math.MaxInt64, Value: math.MaxFloat64}}},
		}
		if _, err := s.Commit(ctxFor(t), &storage.Txn{Samples: all}); err != nil {
			t.Fatal(err)
		}
		want = append(want, all...)
	}
	var got []storage.TwinSamples
	var last uint64
	end, err := s.ReadSamples(0, func(index uint64, all []storage.TwinSamples) error {
		if index <= last {
			t.Errorf("entry %d after %d", index, last)
		}
		last = index
		got = append(got, all...)
		return nil
	})
	if err != nil || end != s.AppliedIndex() {
		t.Fatalf("read up to %d of %d: %v", end, s.AppliedIndex(), err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("samples differ: got %d, want %d", len(got), len(want))
	}
}

func TestRefusedSamplesAreNotGiven(t *testing.T) {
	fs := vfs.NewMem()
	n, err := storagetest.Open("store", fs)
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, n.Store, put("slot", "1", "a"))
	const count = 600
	type answer struct {
		twin string
		ok   bool
	}
	answers := make(chan answer, count)
	for i := range count {
		twin := fmt.Sprintf("default/%d", i)
		txn := &storage.Txn{
			Samples: []storage.TwinSamples{{Project: "default", Twin: twin, Samples: []storage.Sample{{Property: "p", Time: int64(i), Value: 1}}}},
		}
		if i%3 > 0 {
			txn.Guards = []storage.Guard{{Table: "slot", Key: "1", Equal: []byte(string(rune('a' + i%3 - 1)))}}
		}
		if err := n.Store.Submit(txn, func(r storage.Result) { answers <- answer{twin, r.Err == nil} }); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]bool{}
	for range count {
		if a := <-answers; a.ok {
			want[a.twin] = true
		}
	}
	if len(want) != count*2/3 {
		t.Fatalf("%d accepted", len(want))
	}
	check := func(s *storage.Store) {
		t.Helper()
		got := map[string]bool{}
		if _, err := s.ReadSamples(0, func(_ uint64, all []storage.TwinSamples) error {
			for _, x := range all {
				got[x.Twin] = true
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d samples, want those of the %d accepted transactions", len(got), len(want))
		}
	}
	check(n.Store)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	check(storagetest.OpenSingle(t, "store", fs))
}

func TestReadSamplesStopsAtAnError(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	for i := range 5 {
		if _, err := s.Commit(ctxFor(t), &storage.Txn{Samples: []storage.TwinSamples{{Twin: fmt.Sprint(i), Samples: make([]storage.Sample, 1)}}}); err != nil {
			t.Fatal(err)
		}
	}
	stop := errors.New("full")
	seen := 0
	last, err := s.ReadSamples(0, func(uint64, []storage.TwinSamples) error {
		if seen++; seen == 3 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	rest := 0
	end, err := s.ReadSamples(last, func(uint64, []storage.TwinSamples) error { rest++; return nil })
	if rest != 3 || err != nil || end != s.AppliedIndex() {
		t.Errorf("%d entries after the error, up to %d: %v", rest, end, err)
	}
	if again, err := s.ReadSamples(end, nil); again != end || err != nil {
		t.Errorf("nothing new: %d, %v", again, err)
	}
}

func TestCursorIsKeptAndNothingBehindItIsRead(t *testing.T) {
	fs := vfs.NewMem()
	n, err := storagetest.Open("store", fs)
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, n.Store, put("t", "k", "v"))
	cursor := n.Store.AppliedIndex()
	if err := n.Store.SetSampleCursor(cursor); err != nil {
		t.Fatal(err)
	}
	if err := n.Store.SetSampleCursor(1); err != nil || n.Store.SampleCursor() != cursor {
		t.Errorf("the cursor went back to %d, %v", n.Store.SampleCursor(), err)
	}
	mustCommit(t, n.Store, put("t", "k", "w"))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	s := storagetest.OpenSingle(t, "store", fs)
	if s.SampleCursor() != cursor {
		t.Errorf("cursor %d, want %d", s.SampleCursor(), cursor)
	}
	if after, err := s.ReadSamples(0, nil); !errors.Is(err, storage.ErrCompacted) || after != cursor {
		t.Errorf("read from before the cursor: %d, %v", after, err)
	}
}

func TestWaitApplied(t *testing.T) {
	n, err := storagetest.Open("store", vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	s := n.Store
	at := s.AppliedIndex()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.WaitApplied(ctx, at+100); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for what does not come: %v", err)
	}
	got := make(chan error, 1)
	go func() { got <- s.WaitApplied(ctxFor(t), at) }()
	mustCommit(t, s, put("t", "k", "v"))
	if err := <-got; err != nil {
		t.Error(err)
	}
	go func() { got <- s.WaitApplied(context.Background(), at+1000) }()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, storage.ErrClosed) {
		t.Errorf("waiting in a store that closes: %v", err)
	}
}
