//go:build unix

package wasm

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// instanceMaps is how many mappings an instance takes at most: its image's, and what is behind it.
const instanceMaps = 2

var errMaps = errors.New("too many mappings")

// region reserves addresses for the whole cap at once, so that memory grows in place, lies outside of the garbage
// collector's sight, and goes back to the system when it is released. Pages cost only once they are touched, those of an
// image once they are written to.
type region struct {
	mapped []byte
	maps   int64
}

func (r *region) resize(size, cap int, from *image, b *budget) ([]byte, error) {
	if r.mapped == nil {
		if cap == 0 {
			return []byte{}, nil
		}
		if err := r.reserve(cap, from, b); err != nil {
			return nil, err
		}
	}
	return r.mapped[:size:size], nil
}

func (r *region) reserve(cap int, from *image, b *budget) error {
	maps := int64(1)
	if from != nil {
		maps = instanceMaps
	}
	if !b.takeMaps(maps) {
		return errMaps
	}
	mapped, err := unix.Mmap(-1, 0, cap, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		b.takeMaps(-maps)
		return err
	}
	smallPages(mapped)
	r.mapped, r.maps = mapped, maps
	if from == nil {
		return nil
	}
	if err := from.load(mapped); err != nil {
		r.release(b)
		return err
	}
	return nil
}

// address of the first byte.
func (r *region) address() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(r.mapped))) }

func (r *region) release(b *budget) {
	if r.mapped != nil {
		_ = unix.Munmap(r.mapped)
		b.takeMaps(-r.maps)
		r.mapped, r.maps = nil, 0
	}
}
