// The bacnet driver reads, writes and subscribes to values of a BACnet/IP device, or of one behind a router. See README.md.
package main

import (
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Settings of a device's twin.
type Settings struct {
	Device    int     `json:"device"`
	Network   int     `json:"network"`
	MAC       string  `json:"mac"`
	PollS     int     `json:"poll_s"`
	TimeoutMS int     `json:"timeout_ms"`
	Priority  int     `json:"priority"`
	CovS      int     `json:"cov_s"`
	Points    []Point `json:"points"`
}

// Memory is what is kept between calls: where the conversation with the device stands.
type Memory struct {
	// Up: the transport is open.
	Up bool `json:"up,omitempty"`
	// Next is the invoke id of the next request.
	Next uint8 `json:"next"`
	// Asked is the question that waits for its answer, with its invoke id; Tries counts how often it was sent.
	Asked   string `json:"asked,omitempty"`
	AskedID uint8  `json:"asked_id,omitempty"`
	Tries   int    `json:"tries,omitempty"`
	// Queue holds the questions after it.
	Queue []string `json:"queue,omitempty"`
	// Wait is the pending command.
	Wait *Wait `json:"wait,omitempty"`
	// Until has for each point until when its subscription holds, in ms since 1970.
	Until []int64 `json:"until,omitempty"`
	// Described are the points that the model tells of.
	Described []string `json:"described,omitempty"`
	// Failed are questions that the device refused: that is said once. Silent: that it does not answer was said.
	Failed []string `json:"failed,omitempty"`
	Silent bool     `json:"silent,omitempty"`
}

// Wait is a command that waits for its answer.
type Wait struct {
	ID      uint8 `json:"id"`
	Service uint8 `json:"service"`
	// Point that is written, counted from 1; 0: none.
	Point int `json:"point,omitempty"`
}

// Twin is a device's twin.
type Twin = twin.Twin[Settings, Memory]

// Codes of refusals.
const (
	codeRefused      = 2 // the device answers with an error
	codeRejected     = 3 // it does not understand the request
	codeAborted      = 4
	codeSegmentation = 5 // its answer does not fit into one message
	codeInput        = 6
	codeOffline      = 7
)

func newDriver() *twin.Driver[Settings, Memory] {
	d := twin.New[Settings, Memory]()
	d.OnLoad(func(t *Twin, reason string) error {
		if err := describe(t); err != nil {
			return err
		}
		m := t.Memory()
		up := m.Up && reason != "start"
		hangUp(m)
		if err := t.Every("poll", time.Duration(t.Settings().PollS)*time.Second, nil); err != nil {
			return err
		}
		if m.Up = up; up {
			return poll(t)
		}
		return nil
	})
	d.OnConnected(func(t *Twin) error {
		hangUp(t.Memory())
		t.Memory().Up = true
		return poll(t)
	})
	d.OnDisconnected(func(t *Twin, _ string) error {
		hangUp(t.Memory())
		stale(t)
		return t.Cancel("answer")
	})
	d.OnReceived(func(t *Twin, frame []byte) error {
		_, _, err := hear(t, frame)
		if err != nil { // of a command whose call is over
			t.Log("warn", err.Error())
		}
		return nil
	})
	d.OnAnswer(func(t *Twin, frame []byte) (any, error) {
		decided, output, err := hear(t, frame)
		if decided {
			return output, err
		}
		if err != nil {
			t.Log("warn", err.Error())
		}
		return nil, twin.ErrPending
	})
	d.OnTimer("poll", func(t *Twin, _ wire.Value) error { return poll(t) })
	d.OnTimer("answer", func(t *Twin, _ wire.Value) error { return noAnswer(t) })
	d.OnScan(scan)
	d.OnWrite(func(t *Twin, property string, v wire.Value) error {
		i, err := pointCalled(t, property)
		if err != nil {
			return err
		}
		return writePoint(t, i, v, 0)
	})
	twin.Command(d, "read", read)
	twin.Command(d, "write", write)
	twin.Command(d, "relinquish", func(t *Twin, in struct {
		Name     string `json:"name"`
		Priority int    `json:"priority"`
	}) (twin.None, error) {
		i, err := pointCalled(t, in.Name)
		if err != nil {
			return twin.None{}, err
		}
		return twin.None{}, writePoint(t, i, wire.Value("null"), in.Priority)
	})
	return d
}

func init() { twin.Serve(newDriver()) }

func main() {}
