package state

import (
	"reflect"
	"testing"
)

func TestIngestedGoesIntoTheRecord(t *testing.T) {
	g := &Ingested{}
	g.Door("http").Stored = 1 << 40
	g.Door("mqtt").Refused = 3
	g.Door("mqtt").Duplicate++
	for id := range uint64(maxIDs + 10) {
		g.Remember(id << 32)
	}
	if g.Knows(9<<32) || !g.Knows(10<<32) || len(g.IDs) != maxIDs {
		t.Errorf("%d ids are known, the oldest %x", len(g.IDs), g.IDs[0])
	}
	r := &Record{Revision: 7, Fault: "no", Ingested: g, More: &More{Quarantine: Quarantine{Since: 5, Reason: "x"}}}
	b := r.Append(nil)
	if len(b) > r.Size() {
		t.Errorf("%d bytes, %d were announced", len(b), r.Size())
	}
	back, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r, back) {
		t.Errorf("read back %+v, wrote %+v", back, r)
	}
	for n := range b {
		if _, err := Decode(b[:n]); err == nil {
			t.Fatalf("a record cut to %d of %d bytes was read", n, len(b))
		}
	}
}
