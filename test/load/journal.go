package load

import (
	"bufio"
	"fmt"
	"io"
	"sync"
	"time"
)

// Entry is one acknowledged message.
type Entry struct {
	Device   int
	Sequence uint64
	Value    float64
	// Acked is when the acknowledgement arrived, by this process's clock.
	Acked time.Time
}

// Journal of acknowledged messages, about 50 bytes each. The zero value is ready. It may be used by several runs one after
// another.
type Journal struct {
	mu    sync.Mutex
	parts map[int]*part
}

// part is one connection's, so that connections do not wait for each other.
type part struct {
	mu      sync.Mutex
	entries []Entry
}

func (j *Journal) part(connection int) *part {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.parts[connection]
	if p == nil {
		if j.parts == nil {
			j.parts = map[int]*part{}
		}
		p = &part{}
		j.parts[connection] = p
	}
	return p
}

func (p *part) add(e Entry) {
	p.mu.Lock()
	p.entries = append(p.entries, e)
	p.mu.Unlock()
}

// Each calls f with every entry; a device's come in their order. It may run while entries are added.
func (j *Journal) Each(f func(Entry)) {
	j.mu.Lock()
	parts := make([]*part, 0, len(j.parts))
	for _, p := range j.parts {
		parts = append(parts, p)
	}
	j.mu.Unlock()
	for _, p := range parts {
		p.mu.Lock()
		entries := p.entries
		p.mu.Unlock()
		for _, e := range entries {
			f(e)
		}
	}
}

// Len is the number of entries.
func (j *Journal) Len() int {
	n := 0
	j.Each(func(Entry) { n++ })
	return n
}

// Last gives each device's newest acknowledged message.
func (j *Journal) Last() map[int]Entry {
	m := map[int]Entry{}
	j.Each(func(e Entry) { m[e.Device] = e })
	return m
}

// WriteTo writes a line per entry: device, sequence, value, milliseconds since 1970.
func (j *Journal) WriteTo(w io.Writer) (int64, error) {
	b := bufio.NewWriter(w)
	var n int64
	var err error
	j.Each(func(e Entry) {
		if err == nil {
			var k int
			k, err = fmt.Fprintf(b, "%d %d %v %d\n", e.Device, e.Sequence, e.Value, e.Acked.UnixMilli())
			n += int64(k)
		}
	})
	if err == nil {
		err = b.Flush()
	}
	return n, err
}
