package wasm

import (
	"unicode/utf8"
)

// reader reads a module's primitives. The first thing that is missing sets err, and all later reads give zero.
type reader struct {
	b   []byte
	at  int
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = refuse(format, args...)
	}
}

func (r *reader) left() int { return len(r.b) - r.at }

func (r *reader) byte() byte {
	if r.err != nil || r.at >= len(r.b) {
		r.fail("the module ends in the middle of something, at byte %d", r.at)
		return 0
	}
	c := r.b[r.at]
	r.at++
	return c
}

func (r *reader) bytes(n int) []byte {
	if r.err != nil || n < 0 || n > r.left() {
		r.fail("the module ends in the middle of something, at byte %d", r.at)
		return nil
	}
	b := r.b[r.at : r.at+n]
	r.at += n
	return b
}

// u32 reads an unsigned LEB128 of at most 5 bytes.
func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		if r.err != nil {
			return 0
		}
		v |= uint64(c&0x7f) << shift
		if c&0x80 == 0 {
			if v > 0xffffffff {
				r.fail("the number at byte %d does not fit in 32 bits", r.at)
				return 0
			}
			return uint32(v)
		}
	}
	r.fail("the number at byte %d is longer than 5 bytes", r.at)
	return 0
}

// sleb32 reads a signed LEB128 of 32 bits.
func (r *reader) sleb32() int32 {
	var v int64
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		v |= int64(c&0x7f) << shift
		if c&0x80 == 0 {
			if c&0x40 != 0 {
				v |= -1 << (shift + 7)
			}
			return int32(v)
		}
	}
	r.fail("the number at byte %d is longer than 5 bytes", r.at)
	return 0
}

// below checks an index.
func (r *reader) below(index uint32, n int, what string) {
	if r.err == nil && uint64(index) >= uint64(n) {
		r.fail("the %s %d is named; there are %d", what, index, n)
	}
}

// zero passes the number of a memory, of which there is one.
func (r *reader) zero() {
	if r.byte() != 0 {
		r.fail("the byte %d names another memory than the first", r.at-1)
	}
}

// skipLEB passes a LEB128 of at most max bytes, signed or not.
func (r *reader) skipLEB(max int) {
	for range max {
		if r.byte()&0x80 == 0 {
			return
		}
	}
	r.fail("the number at byte %d is longer than %d bytes", r.at, max)
}

// count reads the number of entries of a vector. Each takes a byte at least, so a longer one than the rest is broken.
func (r *reader) count(what string, max int) int {
	n := r.u32()
	if r.err == nil && uint64(n) > uint64(max) {
		r.fail("the module has %d %s; the limit is %d", n, what, max)
		return 0
	}
	if r.err == nil && uint64(n) > uint64(r.left()) {
		r.fail("the module promises %d %s and ends before them", n, what)
		return 0
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

func (r *reader) name() string {
	b := r.bytes(int(r.u32()))
	if r.err == nil && !utf8.Valid(b) {
		r.fail("the name before byte %d is not UTF-8", r.at)
	}
	return string(b)
}
