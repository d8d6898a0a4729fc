//go:build unix

package wasm

import "syscall"

// region reserves addresses for the whole cap at once, so that memory grows in place, lies outside of the garbage
// collector's sight, and goes back to the system when it is released. Pages cost only once they are touched.
type region struct {
	mapped []byte
}

func (r *region) resize(size, cap int) ([]byte, error) {
	if r.mapped == nil {
		if cap == 0 {
			return []byte{}, nil
		}
		mapped, err := syscall.Mmap(-1, 0, cap, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		if err != nil {
			return nil, err
		}
		r.mapped = mapped
	}
	return r.mapped[:size:size], nil
}

func (r *region) release() {
	if r.mapped != nil {
		_ = syscall.Munmap(r.mapped)
		r.mapped = nil
	}
}
