package wasm

import "github.com/tetratelabs/wazero/experimental"

// guestMemory is one instance's memory. It has one owner, the instance; wazero grows it, on the goroutine of a call.
type guestMemory struct {
	budget *budget
	cap    int64
	size   int64
	region region
	freed  bool
}

var _ experimental.LinearMemory = (*guestMemory)(nil)

// Allocate implements experimental.MemoryAllocator: the memory is its own allocator, for its one instance.
func (m *guestMemory) Allocate(_, _ uint64) experimental.LinearMemory { return m }

// Reallocate implements experimental.LinearMemory. It gives nil past the cap or the budget, which the guest sees as a
// memory.grow that failed.
func (m *guestMemory) Reallocate(size uint64) []byte {
	if int64(size) > m.cap || m.freed || !m.budget.take(int64(size)-m.size) {
		return nil
	}
	b, err := m.region.resize(int(size), int(m.cap))
	if err != nil {
		m.budget.take(m.size - int64(size))
		return nil
	}
	m.size = int64(size)
	return b
}

// Free implements experimental.LinearMemory. Freeing again does nothing.
func (m *guestMemory) Free() {
	if m.freed {
		return
	}
	m.freed = true
	m.budget.take(-m.size)
	m.region.release()
}
