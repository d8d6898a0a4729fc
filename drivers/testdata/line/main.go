// The line driver speaks to a device that repeats each line. Tests use it to see which node writes to a device, and what.
package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
)

// Twin is a line twin: no settings, no memory.
type Twin = twin.Twin[twin.None, twin.None]

// Number is the input of do.
type Number struct {
	Number int64 `json:"number"`
}

func newDriver() *twin.Driver[twin.None, twin.None] {
	d := twin.New[twin.None, twin.None]()
	d.OnReceived(func(*Twin, []byte) error { return nil }) // an answer that nobody waits for any more
	d.OnAnswer(answered)
	twin.Command(d, "do", func(t *Twin, in Number) (twin.None, error) {
		return twin.None{}, say(t, "do "+strconv.FormatInt(in.Number, 10))
	})
	twin.Command(d, "ping", func(t *Twin, _ twin.None) (twin.None, error) { return twin.None{}, say(t, "ping") })
	twin.Property(d, "level", func(t *Twin, level float64) error {
		return say(t, "level "+strconv.FormatFloat(level, 'f', -1, 64))
	})
	return d
}

func say(t *Twin, line string) error {
	if err := t.Send([]byte(line + "\n")); err != nil {
		return err
	}
	return twin.ErrPending
}

// answered takes the repeated line as the answer to the call that runs.
func answered(t *Twin, frame []byte) (any, error) {
	word, rest, _ := strings.Cut(strings.TrimSpace(string(frame)), " ")
	switch word {
	case "ping":
		return nil, nil
	case "do":
		n, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			return nil, err
		}
		t.Report("number", n)
		return n, nil
	case "level":
		level, err := strconv.ParseFloat(rest, 64)
		if err != nil {
			return nil, err
		}
		t.Report("level", level)
		return nil, nil
	}
	return nil, fmt.Errorf("the device says %q", word)
}

func init() { twin.Serve(newDriver()) }

func main() {}
