package storage

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// pack makes an entry as the batcher does.
func pack(t testing.TB, node string, incarnation, sequence uint64, txns ...*Txn) []byte {
	t.Helper()
	b := &batcher{node: node, incarnation: incarnation, pack: &packer{}, s: &Store{m: testMetrics()}}
	prop := &proposal{sequence: sequence}
	for _, txn := range txns {
		w := &waiting{}
		if err := w.encode(txn); err != nil {
			t.Fatal(err)
		}
		prop.txns = append(prop.txns, w)
	}
	b.encode(prop, 0)
	return prop.entry
}

func testMetrics() *storeMetrics { return newStoreMetrics(Options{}.withDefaults().Metrics) }

func openBare(t testing.TB) *Store {
	t.Helper()
	s, err := Open(Options{Dir: "store", FS: vfs.NewMem(), Fatal: func(error) {}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func apply(t testing.TB, s *Store, index uint64, entry []byte) results {
	t.Helper()
	out := s.machine.Apply(&raft.Log{Index: index, Type: raft.LogCommand, Data: entry})
	b, ok := out.([]byte)
	if !ok {
		t.Fatalf("entry %d was answered %v", index, out)
	}
	r, err := decodeResults(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func one(key, value string) *Txn {
	return &Txn{Writes: []Write{{Table: "t", Key: key, Value: []byte(value)}}}
}

func TestWindow(t *testing.T) {
	s := openBare(t)
	first := pack(t, "n1", 1, 1, one("a", "1"), one("b", "2"))
	if r := apply(t, s, 1, first); r.status != resultApplied || r.base != 0 || r.count != 2 || r.index != 1 {
		t.Fatalf("%+v", r)
	}
	if r := apply(t, s, 2, first); r.status != resultApplied || r.index != 1 || s.Revision() != 2 {
		t.Errorf("again: %+v, revision %d", r, s.Revision())
	}
	for name, e := range map[string][]byte{
		"another entry of the same number": pack(t, "n1", 1, 1, one("a", "x")),
		"an earlier run":                   pack(t, "n1", 0, 9, one("a", "x")),
	} {
		if r := apply(t, s, s.AppliedIndex()+1, e); r.status != resultStale || s.Revision() != 2 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := apply(t, s, 10, pack(t, "n2", 1, 1, one("c", "3"))); r.status != resultApplied {
		t.Errorf("another node: %+v", r)
	}
	if r := apply(t, s, 11, pack(t, "n1", 2, 1, one("d", "4"))); r.status != resultApplied {
		t.Errorf("a later run: %+v", r)
	}
	if r := apply(t, s, 12, first); r.status != resultStale {
		t.Errorf("the earlier run's first entry: %+v", r)
	}
	// Out of order within the window, and too late behind it.
	for i := uint64(3); i <= windowSize+1; i++ {
		apply(t, s, 20+i, pack(t, "n1", 2, i, one("e", "5")))
	}
	if r := apply(t, s, 200, pack(t, "n1", 2, 2, one("f", "6"))); r.status != resultApplied {
		t.Errorf("out of order: %+v", r)
	}
	if r := apply(t, s, 201, pack(t, "n1", 2, 1, one("d", "4"))); r.status != resultStale {
		t.Errorf("behind the window: %+v", r)
	}
	// What the window knows is in the state: it is the same after a restart.
	if err := errors.Join(s.state.settle(), s.machine.load(s.state.db)); err != nil {
		t.Fatal(err)
	}
	if r := apply(t, s, 202, pack(t, "n1", 2, 5, one("e", "5"))); r.status != resultApplied || r.index != 25 {
		t.Errorf("after a restart: %+v", r)
	}
}

func TestAppliedEntriesAreSkipped(t *testing.T) {
	s := openBare(t)
	e1, e2 := pack(t, "n1", 1, 1, one("a", "1")), pack(t, "n1", 1, 2, one("a", "2"))
	logs := []*raft.Log{{Index: 1, Type: raft.LogCommand, Data: e1}, {Index: 2, Type: raft.LogConfiguration},
		{Index: 4, Type: raft.LogCommand, Data: e2}}
	if out := s.machine.ApplyBatch(logs); len(out) != 3 || s.AppliedIndex() != 4 {
		t.Fatalf("%v, applied %d", out, s.AppliedIndex())
	}
	s.machine.ApplyBatch(logs)
	if s.Revision() != 2 {
		t.Errorf("revision %d", s.Revision())
	}
}

// The same log gives the same state and checksum, however raft cuts it into batches.
func TestChecksumsAreEqual(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var logs []*raft.Log
	for i := uint64(1); i <= 2*checkEvery+10; i++ {
		txn := one(string(rune('a'+rng.IntN(26))), strings.Repeat("v", rng.IntN(50)))
		if rng.IntN(3) == 0 {
			txn.Guards = []Guard{{Table: "t", Key: "a", Revision: uint64(rng.IntN(int(i)))}}
		}
		if rng.IntN(5) == 0 {
			txn.Writes[0].Value = nil
		}
		txn.Writes[0].Quiet = rng.IntN(2) == 0
		logs = append(logs, &raft.Log{Index: i, Type: raft.LogCommand, Data: pack(t, "n1", 1, i, txn)})
	}
	var sums [][]Checksum
	for range 3 {
		s := openBare(t)
		s.machine.changes.keepChanges = 10 + rng.IntN(1000) // a node's own affair
		for from := 0; from < len(logs); {
			n := min(len(logs)-from, 1+rng.IntN(100))
			s.machine.ApplyBatch(logs[from : from+n])
			from += n
		}
		sums = append(sums, s.Checksums())
	}
	if len(sums[0]) != 2 || !reflect.DeepEqual(sums[0], sums[1]) || !reflect.DeepEqual(sums[0], sums[2]) {
		t.Errorf("checksums differ: %v", sums)
	}
	s := openBare(t)
	logs[7].Data = pack(t, "n1", 1, 8, one("a", "another"))
	s.machine.ApplyBatch(logs)
	if reflect.DeepEqual(s.Checksums(), sums[0]) {
		t.Error("another log has the same checksums")
	}
}

func TestMalformedEntryStops(t *testing.T) {
	good := pack(t, "n1", 1, 1, one("a", "1"))
	for name, e := range map[string][]byte{
		"empty": {}, "cut": good[:len(good)-2], "type alone": {entryTxns}, "unknown": {77},
	} {
		s := openBare(t)
		if _, isErr := s.machine.Apply(&raft.Log{Index: 1, Type: raft.LogCommand, Data: e}).(error); !isErr || s.Err() == nil {
			t.Errorf("%s: applied", name)
		}
		if s.AppliedIndex() != 0 {
			t.Errorf("%s: applied %d", name, s.AppliedIndex())
		}
	}
}

func TestGuardCacheSeesItsOwnBatch(t *testing.T) {
	s := openBare(t)
	big := strings.Repeat("B", 3*guardValue)
	for i, value := range []string{"x", "", big, "y"} {
		equal := func(v string) []Guard { return []Guard{{Table: "t", Key: "k", Equal: []byte(v)}} }
		seq := uint64(i + 1)
		r := apply(t, s, seq, pack(t, "n1", 1, seq,
			&Txn{Writes: []Write{{Table: "t", Key: "k", Value: []byte(value)}}},
			&Txn{Guards: equal(value), Writes: []Write{{Table: "t", Key: "k", Value: []byte("next")}}},
			&Txn{Guards: equal(value)},
			&Txn{Guards: equal("next"), Writes: []Write{{Table: "t", Key: "k"}}},
			&Txn{Guards: equal("next")},
			&Txn{Guards: []Guard{{Table: "t", Key: "k"}}, Writes: []Write{{Table: "t", Key: "k", Value: []byte("made")}}},
			&Txn{Guards: []Guard{{Table: "t", Key: "k"}}},
		))
		var refused []int
		for _, f := range r.refused {
			refused = append(refused, f.txn)
		}
		if !reflect.DeepEqual(refused, []int{2, 4, 6}) {
			t.Errorf("%.5q: refused %v", value, refused)
		}
	}
}

func TestGuardCacheIsBounded(t *testing.T) {
	s := openBare(t)
	seq := uint64(0)
	for from := 0; from < 3*guardRecords; from += 8192 {
		var txns []*Txn
		for i := from; i < from+8192; i += 64 {
			txn := &Txn{}
			for k := range 64 {
				txn.Guards = append(txn.Guards, Guard{Table: "t", Key: string(rune(i + k + 1))})
			}
			txns = append(txns, txn)
		}
		seq++
		apply(t, s, seq, pack(t, "n1", 1, seq, txns...))
	}
	if n := len(s.machine.guards.records); n > guardRecords+8192 {
		t.Errorf("%d records are held", n)
	}
}

func TestResultsRoundTrip(t *testing.T) {
	for _, r := range []results{
		{status: resultApplied, index: 9, base: 4, count: 3},
		{status: resultStale, index: math.MaxUint64, count: 1},
		{status: resultApplied, index: 1, base: math.MaxUint64, count: 700, refused: []refusal{{0, 0, 1}, {1, 3, 0}, {699, 2, 1 << 60}}},
	} {
		got, err := decodeResults(r.encode())
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v, %v, want %+v", got, err, r)
		}
	}
}

func TestLogRoundTrip(t *testing.T) {
	s := openBare(t)
	for i, l := range []*raft.Log{
		{Type: raft.LogCommand, Term: 3, Data: []byte("data"), Extensions: []byte("ext")},
		{Type: raft.LogNoop, Term: math.MaxUint64},
		{Type: raft.LogConfiguration, Data: bytes.Repeat([]byte{7}, 100000)},
	} {
		l.Index = uint64(i + 1)
		if err := s.log.StoreLog(l); err != nil {
			t.Fatal(err)
		}
		var got raft.Log
		if err := s.log.GetLog(l.Index, &got); err != nil || !reflect.DeepEqual(&got, l) {
			t.Errorf("%+v, %v, want %+v", got, err, l)
		}
	}
	if _, err := s.log.Get([]byte("missing")); err == nil || err.Error() != "not found" {
		t.Errorf("missing key: %v", err)
	}
	if err := s.log.SetUint64([]byte("term"), 7); err != nil {
		t.Fatal(err)
	}
	if v, err := s.log.GetUint64([]byte("term")); v != 7 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
}

// Whatever is in the log, decoding neither panics nor gives more than it was given, and a state machine either applies it
// or stops.
func FuzzEntry(f *testing.F) {
	samples := []TwinSamples{{Project: "p", Twin: "p/a", Model: "m", Samples: []Sample{{"x", 1, 2.5}, {"y", 2, -1}}}}
	f.Add(pack(f, "n1", 1, 1, one("a", "1")))
	f.Add(pack(f, "n1", 1, 1, &Txn{Guards: []Guard{{Table: "t", Key: "k", Revision: 4}, {Table: "t", Key: "k", Equal: []byte{}}}, Samples: samples}))
	f.Add(pack(f, "n1", 1, 1, &Txn{Samples: append(samples, make([]TwinSamples, 100)...)}, one("b", "")))
	f.Add([]byte{entryTxns})
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, err := decodeEntry(data); err == nil {
			u := newSampleReader()
			if len(e.samples) > 0 {
				_, _ = u.accepted(e.samples, func(int) bool { return false })
			}
		} else if len(data) > 0 && data[0] != entryTxns {
			var unknown *UnknownEntryError
			if !errors.As(err, &unknown) {
				t.Errorf("%v", err)
			}
		}
		_, _ = decodeResults(data)
		var l raft.Log
		_ = decodeLog(1, data, &l)
		_, _ = decodeChange(make([]byte, 13), data)
		changeMatches(data, "t", "")
		s, err := Open(Options{Dir: "store", FS: vfs.NewMem(), Fatal: func(error) {}})
		if err != nil {
			t.Fatal(err)
		}
		out := s.machine.Apply(&raft.Log{Index: 1, Type: raft.LogCommand, Data: data})
		if _, isErr := out.(error); isErr == (s.AppliedIndex() == 1) {
			t.Errorf("answered %v, applied %d", out, s.AppliedIndex())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
