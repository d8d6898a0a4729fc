package wasm

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pages are an image's, in a file in memory that copies map privately: a page is the copy's own once it is written to.
type pages struct {
	file *os.File
	size int
}

// keep writes what is not zero.
func (p *pages) keep(all []byte) error {
	fd, err := unix.MemfdCreate("pollux-guest", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	p.file, p.size = os.NewFile(uintptr(fd), "pollux-guest"), len(all)
	if err := p.write(all); err != nil {
		p.close()
		return fmt.Errorf("freeze: %w", err)
	}
	return nil
}

func (p *pages) write(all []byte) error {
	if err := p.file.Truncate(int64(len(all))); err != nil {
		return err
	}
	for at := 0; at < len(all); {
		if zero(all[at : at+imagePage]) {
			at += imagePage
			continue
		}
		to := at + imagePage
		for to < len(all) && !zero(all[to:to+imagePage]) {
			to += imagePage
		}
		if _, err := p.file.WriteAt(all[at:to], int64(at)); err != nil {
			return err
		}
		at = to
	}
	_, err := unix.FcntlInt(p.file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	return err
}

// load puts the pages over the beginning of a mapping.
func (im *image) load(mapped []byte) error {
	if im.pages.size == 0 {
		return nil
	}
	_, err := unix.MmapPtr(int(im.pages.file.Fd()), 0, unsafe.Pointer(unsafe.SliceData(mapped)), uintptr(im.pages.size),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
	return err
}

func (p *pages) close() {
	if p.file != nil {
		_ = p.file.Close()
	}
}
