package wasm

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"github.com/tetratelabs/wazero/api"
)

// image is what an instance was when it had been initialised: others begin as copies of it. It does not change.
type image struct {
	size    int64 // of the memory
	globals []uint64
	// seeds are where the guest keeps the states of random generators that must differ from copy to copy.
	seeds []int
	// resident is what the image itself takes of the memory budget.
	resident int64
	pages    pages
}

// bytes is the size of the memory; 0 for no image.
func (im *image) bytes() int64 {
	if im == nil {
		return 0
	}
	return im.size
}

// freeze makes an image of an initialised instance, and charges the budget.
func (in *Instance) freeze() (*image, error) {
	b := &in.pool.module.runtime.memory
	all, ok := in.mem.Read(0, in.mem.Size())
	if !ok {
		return nil, errors.New("the memory cannot be read")
	}
	im := &image{size: int64(len(all)), seeds: findChaCha8(all)}
	for _, n := range in.pool.module.info.freezing.mutable {
		g := in.mod.ExportedGlobal(exportGlobal + strconv.Itoa(n))
		if g == nil {
			return nil, fmt.Errorf("the global %d is not exported", n)
		}
		im.globals = append(im.globals, g.Get())
	}
	for at := 0; at < len(all); at += imagePage {
		if !zero(all[at : at+imagePage]) {
			im.resident += imagePage
		}
	}
	if !b.take(im.resident) {
		return nil, ErrMemory
	}
	if err := im.pages.keep(all); err != nil {
		b.take(-im.resident)
		return nil, err
	}
	return im, nil
}

// imagePage is the unit in which an image leaves out what is zero.
const imagePage = 4096

var zeros [imagePage]byte

// zero says whether up to a page is nothing but zeros.
func zero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

// drop frees the image. No instance may have it.
func (im *image) drop(b *budget) {
	b.take(-im.resident)
	im.pages.close()
}

// thaw makes an instance that was just instantiated, with the image as its memory, a copy of the frozen one.
func (im *image) thaw(in *Instance) error {
	if more := (im.size - int64(in.mem.Size())) / PageBytes; more > 0 {
		if _, ok := in.mem.Grow(uint32(more)); !ok {
			return ErrMemory
		}
	}
	for k, n := range in.pool.module.info.freezing.mutable {
		g, ok := in.mod.ExportedGlobal(exportGlobal + strconv.Itoa(n)).(api.MutableGlobal)
		if !ok {
			return fmt.Errorf("the global %d is not exported", n)
		}
		g.Set(im.globals[k])
	}
	for _, at := range im.seeds {
		var seed [chachaSeedBytes]byte
		_, _ = rand.Read(seed[:]) // never fails
		b, ok := in.mem.Read(uint32(at), chachaBytes)
		if !ok {
			return errors.New("a random state lies outside of the memory")
		}
		reseedChaCha8(b, seed)
	}
	return nil
}
