package state

import (
	"encoding/binary"
	"slices"
)

// MaxIDs is how many ids of messages a twin remembers, to know those that are sent again. Each is 8 bytes of its record.
const MaxIDs = 256

// maxDoor bounds the name of a door, in bytes; the longest is connect.
const maxDoor = 16

// Ingested counts the messages that a twin was sent, and knows the last ids among them. Being part of the record, it is
// committed with what the messages changed, so it is right after any crash. The zero Ingested counts nothing.
type Ingested struct {
	Doors []Door
	// IDs are hashes of ids, oldest first.
	IDs []uint64
	// Links tell how far the twin has taken what other nodes brought, the link that was last heard of at the end.
	Links []Link
}

// Link is a node in one of its lives, which numbers what it brings, and the newest number that the twin took.
type Link struct{ ID, Sequence uint64 }

// maxLinks is how many links a twin remembers: about as many nodes can have brought it something before one of them died.
const maxLinks = 8

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
	if len(g.IDs) >= MaxIDs {
		g.IDs = append(g.IDs[:0], g.IDs[len(g.IDs)-MaxIDs+1:]...)
	}
	g.IDs = append(g.IDs, id)
}

// Took says whether the twin took that of a link, or one behind it.
func (g *Ingested) Took(link, sequence uint64) bool {
	return g != nil && slices.ContainsFunc(g.Links, func(l Link) bool { return l.ID == link && l.Sequence >= sequence })
}

// Take notes that the twin takes that of a link. Those of one link come in their order.
func (g *Ingested) Take(link, sequence uint64) {
	last := len(g.Links) - 1
	if last >= 0 && g.Links[last].ID == link {
		g.Links[last].Sequence = sequence
		return
	}
	g.Links = slices.DeleteFunc(g.Links, func(l Link) bool { return l.ID == link })
	if len(g.Links) >= maxLinks {
		g.Links = slices.Delete(g.Links, 0, len(g.Links)-maxLinks+1)
	}
	g.Links = append(g.Links, Link{link, sequence})
}

func (g *Ingested) empty() bool { return g == nil || len(g.Doors) == 0 && len(g.IDs) == 0 }

func (g *Ingested) size() int {
	if g == nil {
		return 0
	}
	return 8*len(g.IDs) + 16*len(g.Links) + 8 + (40+maxDoor)*len(g.Doors)
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

// appendLinks appends the links' section. It is one of its own, so that earlier versions pass it over.
func (g *Ingested) appendLinks(b []byte) []byte {
	var few [maxLinks * (8 + binary.MaxVarintLen64)]byte
	s := binary.AppendUvarint(few[:0], uint64(len(g.Links)))
	for _, l := range g.Links {
		s = binary.AppendUvarint(binary.LittleEndian.AppendUint64(s, l.ID), l.Sequence)
	}
	b = binary.AppendUvarint(b, tagLinks)
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func (d *decoder) fixed() uint64 {
	if len(d.b) < 8 {
		d.fail()
		return 0
	}
	n := binary.LittleEndian.Uint64(d.b)
	d.b = d.b[8:]
	return n
}

func (d *decoder) links() []Link {
	return list(d, func() Link { return Link{ID: d.fixed(), Sequence: d.uint()} })
}

func (d *decoder) ingested() *Ingested {
	g := &Ingested{}
	g.Doors = list(d, func() Door {
		return Door{Name: Intern(d.text()), Stored: d.uint(), Refused: d.uint(), Duplicate: d.uint()}
	})
	g.IDs = list(d, d.fixed)
	return g
}
