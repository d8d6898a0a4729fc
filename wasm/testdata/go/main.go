// Command guest is a guest for the tests of the metering: goroutines, maps, panics that are recovered, collections.
package main

import (
	"bytes"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"unsafe"
)

var input, output []byte

//go:wasmexport alloc
func alloc(n uint32) unsafe.Pointer {
	input = append(input[:0], make([]byte, n)...)
	return unsafe.Pointer(unsafe.SliceData(input))
}

//go:wasmexport tight
func tight(n uint32) uint32 {
	x := uint32(1)
	for i := range n {
		x = (x*1664525 + 1013904223) ^ i
	}
	return x
}

//go:wasmexport recurse
func recurse(n uint32) uint32 {
	var frame [16]uint32
	frame[n&15] = n
	if n == 0 {
		return 0
	}
	return recurse(n-1) + frame[n&15] - n + 1
}

type random uint64

func (r *random) next() uint32 {
	*r = *r*6364136223846793005 + 1442695040888963407
	return uint32(*r >> 33)
}

func words(r *random, n uint32) (sum uint64) {
	count := map[string]int{}
	for range n {
		count[fmt.Sprintf("w%03x", r.next()%64)]++
	}
	var list []string
	for w := range count {
		list = append(list, w)
	}
	sort.Slice(list, func(i, j int) bool {
		return count[list[i]] > count[list[j]] || count[list[i]] == count[list[j]] && list[i] < list[j]
	})
	for _, w := range list[:min(5, len(list))] {
		sum = sum*31 + uint64(len(w)+count[w])
	}
	return sum
}

func pipeline(r *random, n uint32) uint64 {
	in, out := make(chan uint64), make(chan uint64)
	for range 3 {
		go func() {
			for v := range in {
				out <- v * v
			}
		}()
	}
	go func() {
		for i := range n {
			in <- uint64(i ^ r.next()%7)
		}
		close(in)
	}()
	var sum uint64
	for range n {
		sum += <-out
	}
	return sum
}

func recovered(v uint32) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprint(p)
		}
	}()
	list := make([]int, 5)
	if v%3 == 0 {
		panic(errors.New("to order"))
	}
	return strconv.Itoa(list[v%8])
}

//go:wasmexport mix
func mix(seed, n uint32) uint64 {
	r, sum := random(seed), uint64(seed)
	for range n {
		switch v := r.next(); v % 9 {
		case 0:
			sum += words(&r, v%100)
		case 1:
			sum ^= pipeline(&r, v%20)
		case 2:
			sum += uint64(len(recovered(v)))
		case 3:
			b := bytes.Repeat([]byte{byte(v)}, int(v%300_000))
			copy(b[min(len(b), 700):], b)
			sum += uint64(bytes.Count(b, []byte{byte(v)}))
		case 4:
			sum += uint64(tight(v % 500))
		case 5:
			sum += uint64(recurse(v % 300))
		case 6:
			sum += math.Float64bits(math.Sin(float64(v)) * math.Sqrt(float64(v)))
		case 7:
			if v%50 == 0 {
				runtime.GC()
			}
			sum += uint64(len(strings.Fields(strings.Repeat(" ab c", int(v%50)))))
		default:
			sum = sum<<7 | sum>>57 + uint64(v)
		}
	}
	return sum
}

// draws gives numbers of the runtime's generator and of the system's, mixed by which, after n others were thrown away.
//
//go:wasmexport draws
func draws(which, n uint32) uint64 {
	if which == 0 {
		for range n {
			rand.Uint64()
		}
		return rand.Uint64()
	}
	var b [8]byte
	for range n + 1 {
		_, _ = crand.Read(b[:])
	}
	return binary.LittleEndian.Uint64(b[:])
}

var calls uint64

//go:wasmexport count
func count() uint64 {
	calls++
	return calls
}

//go:wasmexport crash
func crash(n uint32) uint32 {
	list := make([]int, 3)
	list[n]++ // innermost
	return recurse(n)
}

func member(s []byte, key string) []byte {
	i := bytes.Index(s, []byte(key))
	if i < 0 {
		return []byte("null")
	}
	rest := s[i+len(key):]
	if rest[0] == '"' {
		return rest[:bytes.IndexByte(rest[1:], '"')+2]
	}
	return rest[:bytes.IndexAny(rest, ",}")]
}

//go:wasmexport handle
func handle(p unsafe.Pointer, n uint32) uint64 {
	s := unsafe.Slice((*byte)(p), n)
	level, _ := strconv.Atoi(string(member(s, `"level":`)))
	o := append(output[:0], `{"ok":true,"id":`...)
	o = append(o, member(s, `"id":`)...)
	o = append(append(o, `,"zone":`...), member(s, `"zone":`)...)
	o = strconv.AppendInt(append(o, `,"level":`...), int64(level+1), 10)
	o = append(append(o, `,"source":`...), member(s, `"source":`)...)
	o = append(append(o, `,"trace":`...), member(s, `"trace":`)...)
	output = append(o, '}')
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(output))))<<32 | uint64(len(output))
}

func main() {}
