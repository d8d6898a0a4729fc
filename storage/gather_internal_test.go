package storage

import (
	"fmt"
	"testing"
)

// What is applied waits in memory until somebody reads, and is written once however often it was written over; what it leads to
// on the disk is the state at one index.
func TestGathering(t *testing.T) {
	s := openBare(t)
	value := make([]byte, 1000)
	written := func() uint64 { return s.state.db.Metrics().MemTable.Size }
	began := written()
	for i := range uint64(200) {
		txn := one("hot", fmt.Sprint(i))
		txn.Writes[0].Quiet = true
		txn.Writes = append(txn.Writes, Write{Table: "t", Key: fmt.Sprint("cold", i%10), Value: value, Quiet: true})
		if r := apply(t, s, i+1, pack(t, "n1", 1, i+1, txn)); r.status != resultApplied {
			t.Fatalf("%+v", r)
		}
	}
	if !s.state.gathering.waits.Load() || s.AppliedIndex() != 200 {
		t.Fatalf("nothing waits, applied %d", s.AppliedIndex())
	}
	// A view from before and one from after what is applied next.
	before := s.View()
	defer before.Close()
	if grown := written() - began; grown > 30_000 {
		t.Errorf("%d bytes for 11 records of 200 writes each", grown)
	}
	del := &Txn{Writes: []Write{{Table: "t", Key: "hot", Quiet: true}}}
	if r := apply(t, s, 201, pack(t, "n1", 1, 201, del)); r.status != resultApplied {
		t.Fatalf("%+v", r)
	}
	if rec, ok, err := before.Get("t", "hot"); err != nil || !ok || string(rec.Value) != "199" || before.AppliedIndex() != 200 {
		t.Errorf("the earlier view: %v %v %v, index %d", rec, ok, err, before.AppliedIndex())
	}
	if _, ok, err := s.Get("t", "hot"); err != nil || ok {
		t.Errorf("a deleted record: %v %v", ok, err)
	}
	if n, err := s.Count("t", ""); err != nil || n != 10 || s.state.gathering.waits.Load() {
		t.Errorf("a table: %d records, %v; waits: %v", n, err, s.state.gathering.waits.Load())
	}
	if m, err := readMeta(s.state.db); err != nil || m.applied != 201 {
		t.Errorf("the database is at %d: %v", m.applied, err)
	}
	// One record is read from where it waits, and leaves it waiting.
	if r := apply(t, s, 202, pack(t, "n1", 1, 202, one("alone", "1"))); r.status != resultApplied {
		t.Fatalf("%+v", r)
	}
	if rec, ok, err := s.Get("t", "alone"); err != nil || !ok || string(rec.Value) != "1" || rec.Revision != s.Revision() || !s.state.gathering.waits.Load() {
		t.Errorf("a record that waits: %+v %v %v; waits: %v", rec, ok, err, s.state.gathering.waits.Load())
	}
	// What a guard looks at for the first time is what was just applied.
	r := apply(t, s, 203, pack(t, "n1", 1, 203, one("guarded", "1")))
	guarded := one("guarded", "2")
	guarded.Guards = []Guard{{Table: "t", Key: "guarded", Revision: s.Revision()}}
	s.machine.guards = newGuardCache()
	if r = apply(t, s, 204, pack(t, "n1", 1, 204, guarded)); len(r.refused) != 0 {
		t.Errorf("%+v", r)
	}
}
