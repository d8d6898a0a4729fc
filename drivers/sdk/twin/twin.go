package twin

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Quality says how good a reported value is.
type Quality string

// The qualities.
const (
	Good  Quality = "good"
	Stale Quality = "stale" // the last known value; the device could not be asked
	Bad   Quality = "bad"   // the device itself says that the value is wrong
)

// Twin is the twin that a call is for. It is valid during the call only.
type Twin[S, M any] struct {
	driver *Driver[S, M]
	host   Host

	state        wire.Value // asked for at first use
	stateBuf     []byte
	memory       *M
	memoryBefore []byte
	reports      []byte // members of the next state_set's "set"
	request      []byte // scratch for one request
	output       []byte
	failed       error // the first report that had no JSON
	settingsRead bool
}

func (t *Twin[S, M]) begin(d *Driver[S, M], host Host) {
	t.driver, t.host = d, host
	t.state, t.memory, t.failed = nil, nil, nil
	t.reports = t.reports[:0]
	t.settingsRead = false
}

// Settings are the twin's settings with defaults applied. They are not to be changed.
func (t *Twin[S, M]) Settings() *S {
	d := t.driver
	if t.settingsRead {
		return &d.settings
	}
	t.settingsRead = true
	code, text := callSetting(t.host, nil)
	if code < 0 || bytes.Equal(text, d.settingsText) {
		return &d.settings
	}
	d.settingsText = append(d.settingsText[:0], text...)
	var fresh S
	if err := wire.Unmarshal(text, &fresh); err != nil {
		t.Log("error", "settings"+err.Error())
	}
	d.settings = fresh
	return &d.settings
}

// Memory is what the driver remembers of this twin from call to call. Changes are kept when the call succeeds.
func (t *Twin[S, M]) Memory() *M {
	if t.memory != nil {
		return t.memory
	}
	t.memory = new(M)
	t.memoryBefore = t.memoryBefore[:0]
	if v := t.readState().Get("memory"); v.Exists() {
		if err := v.Decode(t.memory); err != nil {
			t.Log("error", "memory"+err.Error())
		}
		t.memoryBefore = append(t.memoryBefore, v...)
	}
	return t.memory
}

// Property is the value last reported, as it was when the call began; nil where there is none.
func (t *Twin[S, M]) Property(name string) wire.Value { return t.readState().Get("properties", name) }

func (t *Twin[S, M]) readState() wire.Value {
	if t.state != nil {
		return t.state
	}
	t.state = wire.Value("{}")
	if code, text := callStateGet(t.host); code > 0 {
		t.stateBuf = append(t.stateBuf[:0], text...)
		t.state = t.stateBuf
	}
	return t.state
}

// Report sets a property to what the device says. Nil means that it is not known any more.
func (t *Twin[S, M]) Report(name string, value any) {
	out := t.reports
	if len(out) > 0 {
		out = append(out, ',')
	}
	out = append(wire.AppendString(out, name), ':')
	out, err := wire.Append(out, value)
	if err != nil {
		t.fail(name, err)
		return
	}
	t.reports = out
}

// ReportAs is Report with a quality and the time when the value was measured; the zero time is now.
func (t *Twin[S, M]) ReportAs(name string, value any, quality Quality, at time.Time) {
	b := append(t.request[:0], `{"set":{`...)
	b = append(wire.AppendString(b, name), ':')
	b, err := wire.Append(b, value)
	if err != nil {
		t.fail(name, err)
		return
	}
	b = append(b, '}')
	if !at.IsZero() {
		b = strconv.AppendInt(append(b, `,"time":`...), at.UnixMilli(), 10)
	}
	if quality != "" && quality != Good {
		b = wire.AppendString(append(b, `,"quality":`...), string(quality))
	}
	t.request = append(b, '}')
	if err := refusal(callStateSet(t.host, t.request)); err != nil {
		t.fail(name, err)
	}
}

func (t *Twin[S, M]) fail(name string, err error) {
	if t.failed == nil {
		t.failed = &Error{Code: codeFailed, Message: "report " + name + ": " + err.Error()}
	}
}

// flush hands the reports and the memory to the host.
func (t *Twin[S, M]) flush() error {
	if t.failed != nil {
		return t.failed
	}
	b := append(t.request[:0], '{')
	if len(t.reports) > 0 {
		b = append(append(append(b, `"set":{`...), t.reports...), '}')
	}
	if t.memory != nil {
		mark := len(b)
		if mark > 1 {
			b = append(b, ',')
		}
		b = append(b, `"memory":`...)
		start := len(b)
		b, err := wire.Append(b, t.memory)
		if err != nil {
			return err
		}
		if bytes.Equal(b[start:], t.memoryBefore) {
			b = b[:mark]
		}
		return t.setState(b)
	}
	return t.setState(b)
}

func (t *Twin[S, M]) setState(b []byte) error {
	t.request = b
	if len(b) == 1 {
		return nil
	}
	t.request = append(b, '}')
	return refusal(callStateSet(t.host, t.request))
}

// Send writes one frame to the device.
func (t *Twin[S, M]) Send(frame []byte) error { return refusal(callSend(t.host, frame)) }

// Request writes one frame and waits for the device's next one, which is valid until the next call of the host.
// It holds an instance of the driver while it waits: ErrPending serves many twins better.
func (t *Twin[S, M]) Request(frame []byte, timeout time.Duration) ([]byte, error) {
	t.request = binary.LittleEndian.AppendUint32(t.request[:0], uint32(timeout.Milliseconds()))
	t.request = append(t.request, frame...)
	code, reply := callRequest(t.host, t.request)
	return reply, refusal(code)
}

// Publish sends an MQTT message to the node's broker. The topic is to be within the manifest's.
func (t *Twin[S, M]) Publish(topic string, payload []byte, qos byte, retain bool) error {
	flags := qos & 3
	if retain {
		flags |= 4
	}
	b := append(append(t.request[:0], flags), topic...)
	t.request = append(append(b, 0), payload...)
	return refusal(callPublish(t.host, t.request))
}

// Emit announces an event of the driver's model.
func (t *Twin[S, M]) Emit(name string, data any) error {
	b := wire.AppendString(append(t.request[:0], `{"name":`...), name)
	b, err := wire.Append(append(b, `,"data":`...), data)
	if err != nil {
		return err
	}
	t.request = append(b, '}')
	return refusal(callEmit(t.host, t.request))
}

// After sets the timer of that name, in place of one that is set. It survives restarts of the node.
func (t *Twin[S, M]) After(name string, after time.Duration, data any) error {
	return t.schedule(name, after, 0, data)
}

// Every sets a timer that repeats.
func (t *Twin[S, M]) Every(name string, every time.Duration, data any) error {
	return t.schedule(name, every, every, data)
}

// At sets a timer that is due at a time; one that is past is due at once.
func (t *Twin[S, M]) At(name string, at time.Time, data any) error {
	b := wire.AppendString(append(t.request[:0], `{"name":`...), name)
	return t.set(strconv.AppendInt(append(b, `,"at":`...), at.UnixMilli(), 10), data)
}

// Cron sets a timer that is due as a schedule of cron says, such as "0 7 * * mon-fri" or, with seconds, "*/30 * * * * *",
// on the clocks of a zone such as Europe/Berlin; empty: UTC.
func (t *Twin[S, M]) Cron(name, spec, zone string, data any) error {
	b := wire.AppendString(append(t.request[:0], `{"name":`...), name)
	b = wire.AppendString(append(b, `,"cron":`...), spec)
	if zone != "" {
		b = wire.AppendString(append(b, `,"zone":`...), zone)
	}
	return t.set(b, data)
}

// Cancel removes the timer of that name, if there is one.
func (t *Twin[S, M]) Cancel(name string) error {
	b := wire.AppendString(append(t.request[:0], `{"name":`...), name)
	t.request = append(b, `,"cancel":true}`...)
	return refusal(callSchedule(t.host, t.request))
}

func (t *Twin[S, M]) schedule(name string, after, every time.Duration, data any) error {
	b := wire.AppendString(append(t.request[:0], `{"name":`...), name)
	b = strconv.AppendInt(append(b, `,"after":`...), after.Milliseconds(), 10)
	if every > 0 {
		b = strconv.AppendInt(append(b, `,"every":`...), every.Milliseconds(), 10)
	}
	return t.set(b, data)
}

// set completes the request that sets a timer.
func (t *Twin[S, M]) set(b []byte, data any) error {
	if data != nil {
		var err error
		if b, err = wire.Append(append(b, `,"data":`...), data); err != nil {
			return err
		}
	}
	t.request = append(b, '}')
	return refusal(callSchedule(t.host, t.request))
}

// Log writes a line of at most 1 KiB to the twin's log. Level: debug, info, warn, error.
func (t *Twin[S, M]) Log(level, text string) {
	number := byte(1)
	switch level {
	case "debug":
		number = 0
	case "warn":
		number = 2
	case "error":
		number = 3
	}
	callLog(t.host, append([]byte{number}, text...))
}

// Describe narrows or extends the twin's Thing Model by what this unit really has: a JSON merge patch.
func (t *Twin[S, M]) Describe(patch any) error {
	b, err := wire.Append(t.request[:0], patch)
	if err != nil {
		return err
	}
	t.request = b
	return refusal(callDescribe(t.host, b))
}

// Discovery is a device behind or near the twin's, for the project's inbox.
type Discovery struct {
	// Network, Key and Value are its alias, such as mqtt, topic, plug7.
	Network string `json:"network"`
	Key     string `json:"key"`
	Value   string `json:"value"`
	// Name is what it is called; Driver the one that fits it, if known.
	Name   string `json:"name,omitempty"`
	Driver string `json:"driver,omitempty"`
	// URI is the address that a twin of it would have, such as udp://10.0.0.7.
	URI      string     `json:"uri,omitempty"`
	Settings wire.Value `json:"settings,omitempty"`
}

// Discover reports a device.
func (t *Twin[S, M]) Discover(found Discovery) error {
	b, err := wire.Append(t.request[:0], &found)
	if err != nil {
		return err
	}
	t.request = b
	return refusal(callDiscover(t.host, b))
}

func refusal(code int32) error {
	if code < 0 {
		return Code(code)
	}
	return nil
}
