// The echo driver has no device: it answers commands and takes frames, for tests and measurements.
package main

import (
	"errors"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Settings of an echo twin.
type Settings struct {
	Greeting string `json:"greeting"`
}

// Memory of an echo twin.
type Memory struct {
	Calls int `json:"calls"`
}

// Twin is an echo twin.
type Twin = twin.Twin[Settings, Memory]

// Said is the input and the output of say.
type Said struct {
	Text string `json:"text"`
}

func newDriver() *twin.Driver[Settings, Memory] {
	d := twin.New[Settings, Memory]()
	d.OnReceived(received)
	d.OnAnswer(func(_ *Twin, frame []byte) (any, error) {
		if string(frame) == "wait" {
			return nil, twin.ErrPending
		}
		return Said{string(frame)}, nil
	})
	d.OnTimer("tick", func(t *Twin, data wire.Value) error { return t.Emit("ticked", data) })
	twin.Command(d, "echo", func(_ *Twin, in wire.Value) (wire.Value, error) { return in, nil })
	twin.Command(d, "say", func(t *Twin, in Said) (Said, error) {
		return Said{t.Settings().Greeting + in.Text}, nil
	})
	twin.Command(d, "count", func(t *Twin, _ twin.None) (int, error) {
		t.Memory().Calls++
		t.Report("count", t.Memory().Calls)
		return t.Memory().Calls, nil
	})
	twin.Command(d, "ask", func(t *Twin, in Said) (twin.None, error) {
		if err := t.Send([]byte(in.Text)); err != nil {
			return twin.None{}, err
		}
		return twin.None{}, twin.ErrPending
	})
	twin.Command(d, "tick", func(t *Twin, in struct {
		AfterMS int64 `json:"after_ms"`
	}) (twin.None, error) {
		return twin.None{}, t.After("tick", time.Duration(in.AfterMS)*time.Millisecond, "tock")
	})
	twin.Command(d, "fail", func(t *Twin, in Said) (twin.None, error) {
		t.Report("level", 99) // is dropped with the error
		return twin.None{}, errors.New(in.Text)
	})
	twin.Property(d, "level", func(t *Twin, level float64) error {
		t.Report("level", level)
		return nil
	})
	return d
}

// received takes a frame of JSON, an object of properties, and reports each member.
func received(t *Twin, frame []byte) error {
	_, payload := twin.SplitMessage(frame)
	if payload == nil {
		payload = frame
	}
	doc, err := wire.Parse(payload)
	if err != nil {
		return err
	}
	doc.Each(func(name string, value wire.Value) bool {
		t.Report(name, value)
		return true
	})
	return nil
}

func init() { twin.Serve(newDriver()) }

func main() {}
