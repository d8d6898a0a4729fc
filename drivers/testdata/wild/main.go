// The wild driver misbehaves to order: it loops, takes memory, crashes, floods.
package main

import (
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
)

// Twin is a wild twin.
type Twin = twin.Twin[twin.None, twin.None]

var hoard [][]byte

// kept is in the instance's memory, where a driver must not keep anything.
var kept = make([]string, 0, 16)

func newDriver() *twin.Driver[twin.None, twin.None] {
	d := twin.New[twin.None, twin.None]()
	twin.Command(d, "spin", func(*Twin, twin.None) (int, error) {
		n := 0
		for {
			n++
			if n == -1 {
				return n, nil
			}
		}
	})
	twin.Command(d, "sleep", func(_ *Twin, ms int) (twin.None, error) {
		time.Sleep(time.Duration(ms) * time.Millisecond)
		return twin.None{}, nil
	})
	twin.Command(d, "hog", func(*Twin, twin.None) (int, error) {
		for {
			b := make([]byte, 1<<20)
			b[0] = 1
			hoard = append(hoard, b)
		}
	})
	twin.Command(d, "panic", func(_ *Twin, text string) (twin.None, error) { panic(text) })
	twin.Command(d, "recurse", func(_ *Twin, n int) (int, error) { return recurse(n), nil })
	twin.Command(d, "print", func(_ *Twin, text string) (twin.None, error) {
		println(text)
		return twin.None{}, nil
	})
	twin.Command(d, "flood", func(t *Twin, n int) (int, error) {
		refused := 0
		for range n {
			if t.Emit("flood", nil) != nil {
				refused++
			}
			t.Log("info", "flood")
		}
		return refused, nil
	})
	twin.Command(d, "keep", func(_ *Twin, text string) ([]string, error) {
		if len(kept) == cap(kept) {
			kept = kept[:0]
		}
		kept = append(kept, text)
		return kept, nil
	})
	twin.Command(d, "hello", func(*Twin, twin.None) (string, error) { return "hello", nil })
	return d
}

func recurse(n int) int {
	if n == 0 {
		return 0
	}
	var a [64]int
	a[n%64] = n
	return recurse(n+1) + a[(n+1)%64]
}

func init() { twin.Serve(newDriver()) }

func main() {}
