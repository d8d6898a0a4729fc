package wasm

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// pagemap is the kernel's list of this process's pages, open for good; nil where it cannot be read.
var pagemap = sync.OnceValue(func() *os.File {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil
	}
	return f
})

var pageBytes = os.Getpagesize()

// Bits of an entry: the page is in memory, or swapped out; it is a file's, or shared.
const (
	pagePresent = 1 << 63
	pageSwapped = 1 << 62
	pageShared  = 1 << 61
)

// touched counts the bytes of the first size ones that are this memory's alone: see the kernel's admin-guide/mm/pagemap.
// False where the system does not tell.
func (r *region) touched(size int) (n int64, ok bool) {
	f := pagemap()
	if f == nil || r.mapped == nil {
		return 0, false
	}
	var buf [16 << 10]byte
	at := int64(r.address()) / int64(pageBytes) * 8
	for left := size / pageBytes * 8; left > 0; {
		part := buf[:min(left, len(buf))]
		if _, err := f.ReadAt(part, at); err != nil {
			return 0, false
		}
		for k := 0; k < len(part); k += 8 {
			if e := binary.NativeEndian.Uint64(part[k:]); e&(pagePresent|pageSwapped) != 0 && e&pageShared == 0 {
				n += int64(pageBytes)
			}
		}
		at += int64(len(part))
		left -= len(part)
	}
	return n, true
}

// smallPages asks for no huge pages, of which the first byte written takes 2 MB.
func smallPages(mapped []byte) { _ = unix.Madvise(mapped, unix.MADV_NOHUGEPAGE) }

// mapLimit is how many mappings guests may have together: three quarters of what the system allows the process.
func mapLimit() int64 {
	const usual = 65_530
	text, err := os.ReadFile("/proc/sys/vm/max_map_count")
	if err != nil {
		return usual / 4 * 3
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		n = usual
	}
	return n / 4 * 3
}
