package cluster

import "sync"

// places are classes that were read of TablePlace while it had one version. They hold until it has another.
type places struct {
	version uint64
	mu      sync.RWMutex
	of      map[string]Class
}

// maxPlaces bounds the actors whose class is kept in memory: about 8 MB.
const maxPlaces = 1 << 16

// placesNow gives what is known of the table as it is now. The version is looked at before anything that is put there is read.
func (n *Node) placesNow() *places {
	version := n.o.Records.Version(TablePlace)
	p := n.places.Load()
	if p == nil || p.version != version {
		p = &places{version: version, of: map[string]Class{}}
		n.places.Store(p)
	}
	return p
}

func (p *places) get(id string) (Class, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	c, ok := p.of[id]
	return c, ok
}

func (p *places) put(id string, c Class) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.of) >= maxPlaces {
		clear(p.of)
	}
	p.of[id] = c
}
