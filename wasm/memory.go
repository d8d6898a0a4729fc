package wasm

import (
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"
)

// guestMemory is one instance's memory. It has one owner, the instance; wazero grows it, on the goroutine of a call.
type guestMemory struct {
	budget *budget
	cap    int64
	size   int64
	// image is what the memory begins as; nil: as zeros.
	image *image
	// charged is what the budget holds for it.
	charged int64
	region  region
	freed   bool
}

var _ experimental.LinearMemory = (*guestMemory)(nil)

// Allocate implements experimental.MemoryAllocator: the memory is its own allocator, for its one instance.
func (m *guestMemory) Allocate(_, _ uint64) experimental.LinearMemory { return m }

// Reallocate implements experimental.LinearMemory. It gives nil past the cap or the budget, which the guest sees as a
// memory.grow that failed. What grows is charged in full until it is counted.
func (m *guestMemory) Reallocate(size uint64) []byte {
	n := int64(size)
	grown := n - max(m.size, m.image.bytes())
	if n > m.cap || m.freed || grown > 0 && !m.charge(grown) {
		return nil
	}
	b, err := m.region.resize(int(n), int(m.cap), m.image, m.budget)
	if err != nil {
		if grown > 0 {
			m.charge(-grown)
		}
		return nil
	}
	m.size = n
	return b
}

// charge takes n bytes of the budget, or gives them back.
func (m *guestMemory) charge(n int64) bool {
	if !m.budget.take(n) {
		return false
	}
	m.charged += n
	return true
}

// recount charges what the memory really takes, where the system can tell: the pages that were touched, without those that
// are still the image's. It gives false where the budget does not have that.
func (m *guestMemory) recount() bool {
	touched, ok := m.region.touched(int(m.size))
	return !ok || m.charge(touched-m.charged)
}

// Free implements experimental.LinearMemory. Freeing again does nothing.
func (m *guestMemory) Free() {
	if m.freed {
		return
	}
	m.freed = true
	m.charge(-m.charged)
	m.region.release(m.budget)
}

// budget counts what guests' memories take against limits: bytes, and mappings, of which a system may bound the number.
type budget struct {
	limit    int64
	used     atomic.Int64
	refused  atomic.Int64
	mapLimit int64
	maps     atomic.Int64
}

// take reserves n bytes; it gives false where the budget does not have them.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit && n > 0 {
		b.used.Add(-n)
		b.refused.Add(1)
		return false
	}
	return true
}

// takeMaps reserves mappings.
func (b *budget) takeMaps(n int64) bool {
	if b.maps.Add(n) > b.mapLimit && n > 0 {
		b.maps.Add(-n)
		b.refused.Add(1)
		return false
	}
	return true
}

// short says whether n bytes more, and an instance's mappings, are too many.
func (b *budget) short(n int64) bool {
	return b.used.Load()+n > b.limit || b.maps.Load()+instanceMaps > b.mapLimit
}
