// Package twintest runs a Go driver natively, in ordinary tests: it plays the twin and its device, and shows what the
// driver did. It applies a call's effects together, or not at all, as the node does.
//
// It does not run the sandbox: limits, deadlines and the manifest's rules are the node's.
package twintest

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Message is an MQTT message that the driver published.
type Message struct {
	Topic, Payload string
	QoS            byte
	Retain         bool
}

// Event is an event that the driver emitted. Data is JSON.
type Event struct{ Name, Data string }

// Timer is a timer that the driver set. Every is 0 where it does not repeat.
type Timer struct {
	After, Every time.Duration
	// At in milliseconds since 1970.
	At         int64
	Cron, Zone string
	Data       string
}

// Result is what one call came to.
type Result struct {
	// Output is JSON; empty for none.
	Output  string
	Pending bool
	// Err is the driver's refusal, or nil.
	Err *twin.Error
}

// Twin is a twin under test. Its fields may be read and set between calls.
type Twin struct {
	// Properties are the reported values, JSON.
	Properties map[string]string
	// Qualities holds what is not good.
	Qualities map[string]string
	// Memory is what the driver remembers, JSON.
	Memory string
	Timers map[string]Timer
	// Sent are the frames written to the device, by Send and Request.
	Sent       []string
	Published  []Message
	Events     []Event
	Logs       []string
	Described  []string
	Discovered []string
	// Answer answers Request; nil: every request times out.
	Answer func(frame string) (reply string, code twin.Code)
	// HTTP answers http requests, and Other calls of other twins, given as JSON; nil: refused with -1, denied.
	HTTP  func(request twin.HTTPRequest) (twin.HTTPResponse, twin.Code)
	Other func(request wire.Value) (output string, err *twin.CallError)
	// Subscriptions that stand, as SYSTEM/TWIN/PROPERTY or TWIN/PROPERTY.
	Subscriptions map[string]bool
	// Connections are the operations asked of the connection: starttls, close.
	Connections []string
	// Refuse maps a capability's name to the code that it is refused with.
	Refuse map[string]twin.Code

	tb       testing.TB
	settings string
	handle   func(h twin.Host, event int32, input []byte) (int32, []byte)
	call     []func() // effects of the running call
}

// New returns a twin of the driver with settings, given as a Go value or as wire.Value.
func New[S, M any](tb testing.TB, d *twin.Driver[S, M], settings any) *Twin {
	tb.Helper()
	text, err := wire.Append(nil, settings)
	if err != nil {
		tb.Fatalf("settings: %v", err)
	}
	return &Twin{
		tb: tb, settings: string(text), handle: d.Handle,
		Properties: map[string]string{}, Qualities: map[string]string{}, Timers: map[string]Timer{},
		Subscriptions: map[string]bool{}, Refuse: map[string]twin.Code{},
	}
}

// Event makes one call with a raw input.
func (t *Twin) Event(event int32, input string) Result {
	t.tb.Helper()
	t.call = t.call[:0]
	code, output := t.handle((*host)(t), event, []byte(input))
	switch {
	case code == 0 || code == -1:
		for _, apply := range t.call {
			apply()
		}
		return Result{Output: string(output), Pending: code == -1}
	case code < 0:
		t.tb.Fatalf("the driver returned %d", code)
	}
	doc, err := wire.Parse(output)
	if err != nil {
		t.tb.Fatalf("the driver's error is %q: %v", output, err)
	}
	e := &twin.Error{Code: code}
	e.Message, _ = doc.Get("message").Text()
	e.Retryable, _ = doc.Get("retryable").Bool()
	return Result{Err: e}
}

// Load activates the twin; reason is start, settings or version.
func (t *Twin) Load(reason string) Result {
	return t.Event(twin.EventLoad, `{"reason":`+quote(reason)+`}`)
}

// Connect says that the device can be reached.
func (t *Twin) Connect() Result { return t.Event(twin.EventConnected, `{}`) }

// Disconnect says that the connection was lost.
func (t *Twin) Disconnect(reason string) Result {
	return t.Event(twin.EventDisconnected, `{"error":`+quote(reason)+`}`)
}

// Receive gives a frame of the device.
func (t *Twin) Receive(frame string) Result { return t.Event(twin.EventReceived, frame) }

// Message gives an MQTT message.
func (t *Twin) Message(topic, payload string) Result { return t.Receive(topic + "\x00" + payload) }

// Reply gives a frame while a command is pending.
func (t *Twin) Reply(frame string) Result { return t.Event(twin.EventAnswer, frame) }

// Command calls an action with JSON input; empty for none.
func (t *Twin) Command(action, input string) Result {
	if input == "" {
		input = "null"
	}
	return t.Event(twin.EventCommand, `{"action":`+quote(action)+`,"input":`+input+`}`)
}

// Set asks for a property's value, JSON.
func (t *Twin) Set(property, value string) Result {
	return t.Event(twin.EventCommand, `{"property":`+quote(property)+`,"value":`+value+`}`)
}

// Fire lets a timer that is set be due, and fails the test where there is none. One that does not repeat is gone then.
func (t *Twin) Fire(name string) Result {
	t.tb.Helper()
	timer, ok := t.Timers[name]
	if !ok {
		t.tb.Fatalf("no timer %q is set", name)
	}
	if timer.Every == 0 {
		delete(t.Timers, name)
	}
	data := timer.Data
	if data == "" {
		data = "null"
	}
	return t.Event(twin.EventTimer, `{"name":`+quote(name)+`,"data":`+data+`}`)
}

// Change tells a property of another twin that the driver subscribed to; value is JSON.
func (t *Twin) Change(whom twin.Other, property, value string) Result {
	system := ""
	if whom.System != "" {
		system = `"system":` + quote(whom.System) + `,`
	}
	return t.Event(twin.EventSubscription, `{"twin":`+quote(whom.Twin)+`,"name":`+quote(whom.Twin)+`,`+system+
		`"property":`+quote(property)+`,"value":`+value+`,"quality":"good","time":1}`)
}

// Webhook brings an HTTP request; the result's output is the answer, JSON.
func (t *Twin) Webhook(request twin.Webhook) Result {
	t.tb.Helper()
	text, err := wire.Append(nil, &request)
	if err != nil {
		t.tb.Fatal(err)
	}
	return t.Event(twin.EventWebhook, string(text))
}

// TakeSent returns the frames sent so far and forgets them.
func (t *Twin) TakeSent() []string {
	sent := t.Sent
	t.Sent = nil
	return sent
}

// TakePublished returns the messages published so far and forgets them.
func (t *Twin) TakePublished() []Message {
	published := t.Published
	t.Published = nil
	return published
}

func quote(s string) string { return string(wire.AppendString(nil, s)) }

// host is the Twin as the driver sees it.
type host Twin

// Call implements twin.Host.
func (h *host) Call(capability string, request []byte) (int32, []byte) {
	if code, refused := h.Refuse[capability]; refused {
		return int32(code), nil
	}
	switch capability {
	case "send":
		h.Sent = append(h.Sent, string(request))
	case "request":
		return h.request(request)
	case "publish":
		topic, payload := twin.SplitMessage(request[1:])
		h.Published = append(h.Published, Message{Topic: topic, Payload: string(payload),
			QoS: request[0] & 3, Retain: request[0]&4 != 0})
	case "log":
		levels := [...]string{"debug", "info", "warn", "error"}
		h.Logs = append(h.Logs, levels[request[0]&3]+" "+string(request[1:]))
	case "http":
		return h.http(request)
	case "call":
		return h.other(request)
	case "state_get":
		return reply(h.state())
	case "setting":
		return h.setting(string(request))
	default:
		doc, err := wire.Parse(append([]byte(nil), request...))
		if err != nil {
			return int32(twin.ErrInvalid), nil
		}
		return h.effect(capability, doc), nil
	}
	return 0, nil
}

func reply(text string) (int32, []byte) { return int32(len(text)), []byte(text) }

func (h *host) request(request []byte) (int32, []byte) {
	if len(request) < 4 {
		return int32(twin.ErrInvalid), nil
	}
	h.Sent = append(h.Sent, string(request[4:]))
	if h.Answer == nil {
		return int32(twin.ErrTimeout), nil
	}
	_ = binary.LittleEndian.Uint32(request)
	text, code := h.Answer(string(request[4:]))
	if code != 0 {
		return int32(code), nil
	}
	return reply(text)
}

func (h *host) http(request []byte) (int32, []byte) {
	if h.HTTP == nil {
		return int32(twin.ErrDenied), nil
	}
	head, body, _ := strings.Cut(string(request), "\x00")
	var asked struct {
		Method  string            `json:"method"`
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
		Timeout int64             `json:"timeout"`
	}
	if err := wire.Unmarshal([]byte(head), &asked); err != nil {
		return int32(twin.ErrInvalid), nil
	}
	res, code := h.HTTP(twin.HTTPRequest{Method: asked.Method, URL: asked.URL, Headers: asked.Headers, Body: []byte(body),
		Timeout: time.Duration(asked.Timeout) * time.Millisecond})
	if code != 0 {
		return int32(code), nil
	}
	text, err := wire.Append(nil, &struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
	}{res.Status, res.Headers})
	if err != nil {
		h.tb.Fatal(err)
	}
	return reply(string(text) + "\x00" + string(res.Body))
}

func (h *host) other(request []byte) (int32, []byte) {
	doc, err := wire.Parse([]byte(string(request)))
	switch {
	case err != nil:
		return int32(twin.ErrInvalid), nil
	case h.Other == nil:
		return int32(twin.ErrDenied), nil
	}
	output, refused := h.Other(doc)
	if refused != nil {
		return reply(`{"error":{"code":` + quote(refused.Code) + `,"message":` + quote(refused.Message) + `}}`)
	}
	if output == "" {
		output = "null"
	}
	return reply(`{"output":` + output + `}`)
}

func (h *host) setting(name string) (int32, []byte) {
	if name == "" {
		return reply(h.settings)
	}
	v := wire.Value(h.settings).Get(name)
	if v == nil {
		v = wire.Value("null")
	}
	return reply(string(v))
}

func (h *host) state() string {
	b, err := wire.Append([]byte(`{"properties":`), rawMap(h.Properties))
	if err != nil {
		h.tb.Fatal(err)
	}
	memory := h.Memory
	if memory == "" {
		memory = "null"
	}
	return string(b) + `,"memory":` + memory + `}`
}

func rawMap(m map[string]string) map[string]wire.Value {
	out := make(map[string]wire.Value, len(m))
	for k, v := range m {
		out[k] = wire.Value(v)
	}
	return out
}

func (h *host) effect(capability string, doc wire.Value) int32 {
	name, named := doc.Get("name").Text()
	switch capability {
	case "state_set":
		h.call = append(h.call, func() { h.setState(doc) })
	case "schedule":
		if !named {
			return int32(twin.ErrInvalid)
		}
		h.call = append(h.call, func() { h.schedule(name, doc) })
	case "emit":
		if !named {
			return int32(twin.ErrInvalid)
		}
		h.call = append(h.call, func() { h.Events = append(h.Events, Event{name, string(doc.Get("data"))}) })
	case "describe":
		h.call = append(h.call, func() { h.Described = append(h.Described, string(doc)) })
	case "subscribe":
		h.call = append(h.call, func() { h.subscribe(doc) })
	case "connection":
		do, _ := doc.Get("do").Text()
		h.Connections = append(h.Connections, do)
	case "discover":
		h.call = append(h.call, func() { h.Discovered = append(h.Discovered, string(doc)) })
	default:
		h.tb.Fatalf("unknown capability %q", capability)
	}
	return 0
}

func (h *host) setState(doc wire.Value) {
	quality, _ := doc.Get("quality").Text()
	doc.Get("set").Each(func(name string, v wire.Value) bool {
		h.Properties[name] = strings.TrimSpace(string(v))
		delete(h.Qualities, name)
		if quality != "" && quality != "good" {
			h.Qualities[name] = quality
		}
		return true
	})
	if memory := doc.Get("memory"); memory != nil {
		h.Memory = string(memory)
	}
}

func (h *host) schedule(name string, doc wire.Value) {
	if cancel, _ := doc.Get("cancel").Bool(); cancel {
		delete(h.Timers, name)
		return
	}
	after, _ := doc.Get("after").Int()
	every, _ := doc.Get("every").Int()
	h.Timers[name] = Timer{After: time.Duration(after) * time.Millisecond,
		Every: time.Duration(every) * time.Millisecond, Data: string(doc.Get("data"))}
	timer := h.Timers[name]
	timer.At, _ = doc.Get("at").Int()
	timer.Cron, _ = doc.Get("cron").Text()
	timer.Zone, _ = doc.Get("zone").Text()
	h.Timers[name] = timer
}

func (h *host) subscribe(doc wire.Value) {
	name, _ := doc.Get("twin").Text()
	if system, _ := doc.Get("system").Text(); system != "" {
		name = system + "/" + name
	}
	property, _ := doc.Get("property").Text()
	if cancel, _ := doc.Get("cancel").Bool(); cancel {
		delete(h.Subscriptions, name+"/"+property)
		return
	}
	h.Subscriptions[name+"/"+property] = true
}
