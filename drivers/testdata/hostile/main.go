// The hostile driver does to order what no driver should: it loops for ever, takes all memory, panics.
package main

import "github.com/polluxhq/pollux/drivers/sdk/twin"

// Settings of a hostile twin.
type Settings struct{}

// Memory of a hostile twin.
type Memory struct{}

var hog [][]byte

func main() {}

func init() { twin.Serve(newDriver()) }

func newDriver() *twin.Driver[Settings, Memory] {
	d := twin.New[Settings, Memory]()
	twin.Command(d, "spin", func(*twin.Twin[Settings, Memory], twin.None) (twin.None, error) {
		for i := uint64(0); ; i++ {
			if i == 1<<63 {
				return twin.None{}, nil
			}
		}
	})
	twin.Command(d, "grow", func(*twin.Twin[Settings, Memory], twin.None) (int, error) {
		for {
			block := make([]byte, 1<<20)
			block[len(hog)%len(block)] = 1
			hog = append(hog, block)
		}
	})
	twin.Command(d, "crash", func(*twin.Twin[Settings, Memory], twin.None) (twin.None, error) {
		panic("to order")
	})
	return d
}
