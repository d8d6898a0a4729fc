package state

import (
	"encoding/binary"
	"slices"
)

// maxIDs is how many ids of messages a twin remembers, to know those that are sent again. Each is 8 bytes of its record.
const maxIDs = 256

// maxDoor bounds the name of a door, in bytes; the longest is connect.
const maxDoor = 16

// Ingested counts the messages that a twin was sent, and knows the last ids among them. Being part of the record, it is
// committed with what the messages changed, so it is right after any crash. The zero Ingested counts nothing.
type Ingested struct {
	Doors []Door
	// IDs are hashes of ids, oldest first.
	IDs []uint64
}

// Door is a way in, and what became of the messages that came by it.
type Door struct {
	Name                       Name
	Stored, Refused, Duplicate uint64
}

// Door gives the counters of a way in, new where there were none.
func (g *Ingested) Door(name string) *Door {
	for i := range g.Doors {
		if g.Doors[i].Name.Value() == name {
			return &g.Doors[i]
		}
	}
	g.Doors = append(g.Doors, Door{Name: Intern(name)})
	return &g.Doors[len(g.Doors)-1]
}

// Knows says whether a message of that id was here.
func (g *Ingested) Knows(id uint64) bool { return g != nil && slices.Contains(g.IDs, id) }

// Remember keeps an id, and forgets the oldest where there are too many.
func (g *Ingested) Remember(id uint64) {
	if len(g.IDs) >= maxIDs {
		g.IDs = append(g.IDs[:0], g.IDs[len(g.IDs)-maxIDs+1:]...)
	}
	g.IDs = append(g.IDs, id)
}

func (g *Ingested) empty() bool { return g == nil || len(g.Doors) == 0 && len(g.IDs) == 0 }

func (g *Ingested) size() int {
	if g == nil {
		return 0
	}
	return 8*len(g.IDs) + 8 + (40+maxDoor)*len(g.Doors)
}

// append appends the section, its tag and length included.
func (g *Ingested) append(b []byte) []byte {
	var few [128]byte
	s := few[:0]
	if n := g.size(); n > len(few) {
		s = make([]byte, 0, n)
	}
	s = binary.AppendUvarint(s, uint64(len(g.Doors)))
	for i := range g.Doors {
		d := &g.Doors[i]
		s = appendText(s, d.Name.Value())
		s = binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(s, d.Stored), d.Refused), d.Duplicate)
	}
	s = binary.AppendUvarint(s, uint64(len(g.IDs)))
	for _, id := range g.IDs {
		s = binary.LittleEndian.AppendUint64(s, id)
	}
	b = binary.AppendUvarint(b, tagIngested)
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func (d *decoder) ingested() *Ingested {
	g := &Ingested{}
	g.Doors = list(d, func() Door {
		return Door{Name: Intern(d.text()), Stored: d.uint(), Refused: d.uint(), Duplicate: d.uint()}
	})
	g.IDs = list(d, func() uint64 {
		if len(d.b) < 8 {
			d.fail()
			return 0
		}
		id := binary.LittleEndian.Uint64(d.b)
		d.b = d.b[8:]
		return id
	})
	return g
}
