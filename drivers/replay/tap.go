// Package replay records what a twin's driver was called with, and calls another version of the driver with the same: what
// the two do differently shows. A recording is a sequence of pb.RecordTwinResponse; Tap makes its parts where the driver
// runs, Write and Read keep it in a file, Run replays it.
//
// The package does not know twins: package actors records, with secrets masked.
package replay

import (
	"context"
	"encoding/json"
	"time"

	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Kinds of calls of the host.
const (
	kindSend       = "send"
	kindRequest    = "request"
	kindPublish    = "publish"
	kindHTTP       = "http"
	kindCall       = "call"
	kindConnection = "connection"
	kindLog        = "log"
)

// Tap is a host that notes what a driver asks of another one. It belongs to one call.
type Tap struct {
	Host  drivers.Host
	Calls []*pb.RecordedHostCall
}

var _ drivers.Host = (*Tap)(nil)

func (t *Tap) note(kind, target string, data, answer []byte, err error) {
	c := &pb.RecordedHostCall{Kind: kind, Target: target, Data: append([]byte(nil), data...), Answer: append([]byte(nil), answer...)}
	if err != nil {
		c.Error = err.Error()
	}
	t.Calls = append(t.Calls, c)
}

// Send implements drivers.Host.
func (t *Tap) Send(ctx context.Context, frame []byte) error {
	err := t.Host.Send(ctx, frame)
	t.note(kindSend, "", frame, nil, err)
	return err
}

// Request implements drivers.Host.
func (t *Tap) Request(ctx context.Context, frame []byte, timeout time.Duration) ([]byte, error) {
	answer, err := t.Host.Request(ctx, frame, timeout)
	t.note(kindRequest, "", frame, answer, err)
	return answer, err
}

// Publish implements drivers.Host.
func (t *Tap) Publish(ctx context.Context, topic string, payload []byte, qos byte, retain bool) error {
	err := t.Host.Publish(ctx, topic, payload, qos, retain)
	t.note(kindPublish, topic, payload, nil, err)
	return err
}

// HTTP implements drivers.Host.
func (t *Tap) HTTP(ctx context.Context, request drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	target, body := request.Method+" "+request.URL, append([]byte(nil), request.Body...)
	answer, err := t.Host.HTTP(ctx, request)
	text, _ := json.Marshal(answer) // a status, texts and bytes
	t.note(kindHTTP, target, body, text, err)
	return answer, err
}

// Call implements drivers.Host.
func (t *Tap) Call(ctx context.Context, call drivers.TwinCall) (drivers.TwinAnswer, error) {
	answer, err := t.Host.Call(ctx, call)
	text, _ := json.Marshal(answer) // texts and JSON
	t.note(kindCall, callTarget(call), callData(call), text, err)
	return answer, err
}

// Connection implements drivers.Host.
func (t *Tap) Connection(ctx context.Context, do drivers.ConnectionOp) error {
	err := t.Host.Connection(ctx, do)
	t.note(kindConnection, string(do), nil, nil, err)
	return err
}

// Log implements drivers.Host.
func (t *Tap) Log(level, text string) {
	t.Host.Log(level, text)
	t.note(kindLog, level, []byte(text), nil, nil)
}

// callTarget names what another twin is asked, such as lamp.set level.
func callTarget(c drivers.TwinCall) string {
	who := c.Twin
	if c.System != "" {
		who = c.System + "/" + c.Twin
	}
	switch {
	case c.Action != "":
		return who + "." + c.Action
	case c.Property != "":
		return who + ".set " + c.Property
	case c.Notify != nil:
		return "notify " + who
	}
	return who + ".get"
}

func callData(c drivers.TwinCall) []byte {
	if c.Property != "" {
		return c.Value
	}
	if c.Notify != nil {
		return c.Notify
	}
	return c.Input
}
