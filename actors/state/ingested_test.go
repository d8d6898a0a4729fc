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
	for id := range uint64(MaxIDs + 10) {
		g.Remember(id << 32)
	}
	if g.Knows(9<<32) || !g.Knows(10<<32) || len(g.IDs) != MaxIDs {
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

// TestDecodeDoors: the counters are found behind all else that a record may hold, without reading it, and the same as by reading it.
func TestDecodeDoors(t *testing.T) {
	r := sample()
	r.Ingested = &Ingested{IDs: []uint64{1, 2}}
	r.Ingested.Door("http").Stored = 12
	*r.Ingested.Door("mqtt") = Door{Name: Intern("mqtt"), Stored: 1 << 40, Refused: 3, Duplicate: 1}
	b := r.Append(nil)
	var got []Door
	each := func(name []byte, stored, refused, duplicate uint64) {
		got = append(got, Door{Intern(string(name)), stored, refused, duplicate})
	}
	if err := DecodeDoors(b, each); err != nil || !reflect.DeepEqual(got, r.Ingested.Doors) {
		t.Fatalf("%+v, %v; want %+v", got, err, r.Ingested.Doors)
	}
	sum := uint64(0)
	if n := testing.AllocsPerRun(100, func() { _ = DecodeDoors(b, func(_ []byte, stored, _, _ uint64) { sum += stored }) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	got = nil
	r.Ingested = nil
	for _, x := range []*Record{{Revision: 1}, r} {
		if err := DecodeDoors(x.Append(nil), each); err != nil || len(got) > 0 {
			t.Errorf("a record that counts nothing: %v, %v", got, err)
		}
	}
	for n := range b[:len(b)/2] {
		if err := DecodeDoors(b[:n], func([]byte, uint64, uint64, uint64) {}); err == nil {
			t.Fatalf("a record cut to %d of %d bytes was read", n, len(b))
		}
	}
}

func TestLinksGoIntoTheRecord(t *testing.T) {
	g := &Ingested{}
	for link := uint64(1); link <= maxLinks+2; link++ {
		g.Take(link, 10*link)
		g.Take(link, 10*link+1)
	}
	g.Take(4, 1<<40)
	if g.Took(2, 1) || !g.Took(3, 31) || g.Took(3, 32) || !g.Took(4, 41) || g.Took(99, 0) || (*Ingested)(nil).Took(1, 0) {
		t.Errorf("took %+v", g.Links)
	}
	if len(g.Links) != maxLinks || g.Links[maxLinks-1] != (Link{4, 1 << 40}) {
		t.Errorf("links %+v", g.Links)
	}
	g.Door("mqtt").Stored = 5
	back, err := Decode((&Record{Ingested: g}).Append(nil))
	if err != nil || !reflect.DeepEqual(back.Ingested, g) {
		t.Fatalf("%+v, %v; want %+v", back, err, g)
	}
}
