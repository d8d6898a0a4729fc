//go:build !linux

package wasm

import "bytes"

// pages are an image's: copied where they cannot be mapped.
type pages struct {
	all []byte
}

func (p *pages) keep(all []byte) error {
	p.all = bytes.Clone(all)
	return nil
}

// load puts the pages at the beginning of a memory that is zero.
func (im *image) load(mapped []byte) error {
	for at := 0; at < len(im.pages.all); at += imagePage {
		if page := im.pages.all[at : at+imagePage]; !zero(page) {
			copy(mapped[at:], page)
		}
	}
	return nil
}

func (p *pages) close() { p.all = nil }
