// Package drivers is the contract between a twin and its driver: the manifest, the events that a driver is called
// with, the capabilities that it may use, and the transports that carry its bytes.
//
// It runs drivers in the sandbox of package wasm. It does not know actors: a twin is a Host, and what a call wants
// changed comes back as Effects that take effect together, or not at all.
package drivers

import (
	"context"
	"encoding/json"
	"time"
)

// Event is the reason of a call to a driver (the first argument of drv_handle).
type Event int32

const (
	EventLoad         Event = 1 // the twin was activated; input: {"reason":"start"|"settings"|"version"}
	EventConnected    Event = 2 // input: {}
	EventDisconnected Event = 3 // input: {"error":"…"}
	EventReceived     Event = 4 // input: one frame, raw; MQTT: topic, a zero byte, payload
	EventCommand      Event = 5 // input: {"action":"NAME","input":…} or {"property":"NAME","value":…}
	EventTimer        Event = 6 // input: {"name":"…","data":…}
	EventUnload       Event = 7 // input: {}
	EventMigrate      Event = 8 // input: {"from":"VERSION"}
	// EventSubscription tells a property that the driver subscribed to: SubscriptionInput.
	EventSubscription Event = 9
	// EventWebhook is an HTTP request to the twin: WebhookInput. The output is its WebhookOutput.
	EventWebhook Event = 10
	EventAnswer  Event = 11 // a frame that came while a command is pending; input as EventReceived. See Effects.Pending
	EventScan    Event = 12 // find devices on the network; input: {"timeout":ms,"options":…}; answered by discover
	// EventRun gives a message to a logic, outside of its twin's turn: RunInput. The output is a RunOutput.
	EventRun Event = 13
)

// Quality of a reported value.
type Quality uint8

const (
	QualityGood  Quality = 1
	QualityStale Quality = 2
	QualityBad   Quality = 3
)

// Call is one call of a driver.
type Call struct {
	Event Event
	// Tenant is the twin's project. An instance never serves two tenants.
	Tenant string
	// Input belongs to the caller and is not changed.
	Input []byte
	// State is the twin's state as JSON: {"properties":{NAME:VALUE…},"memory":ANY}. Asked for only when the guest does.
	State func() []byte
	// Settings as JSON, defaults applied, secrets in clear.
	Settings []byte
	// Clock, where not nil, hears when the guest's own code runs.
	Clock Clock
	// Budget, where not nil, bounds the call beyond CallLimits.
	Budget *Budget
}

// Clock measures what a call computes. It is told from the call's goroutine: Run when the guest's code goes on, Pause
// when it ends or waits for a host function that may block. Waiting for an instance, and making one, comes before the
// first Run.
type Clock interface {
	Run()
	Pause()
}

// Host is what a running call reaches at once. The methods are called from the call's goroutine and may block until
// ctx ends. Which of them a driver may use at all is settled by its manifest before they are called.
type Host interface {
	// Send writes one frame to the twin's device. It checks the lease right before the write.
	Send(ctx context.Context, frame []byte) error
	// Request sends a frame and waits for the next frame that arrives.
	Request(ctx context.Context, frame []byte, timeout time.Duration) ([]byte, error)
	// Publish sends an MQTT message to the node's broker, within the topics of the twin's binding.
	Publish(ctx context.Context, topic string, payload []byte, qos byte, retain bool) error
	// HTTP makes one request to a host that the twin's binding allows, and waits for its answer. An answer that is longer
	// than MaxBytes is ErrTooLarge. The request belongs to the host.
	HTTP(ctx context.Context, request HTTPRequest) (HTTPResponse, error)
	// Call asks another twin of the same project, and waits for its answer. What the other twin refuses, and that there
	// is none, is in the answer; an error says that the call was not made at all.
	Call(ctx context.Context, call TwinCall) (TwinAnswer, error)
	// Connection acts on the twin's connection. It returns when that is done: after StartTLS the next frame is sealed.
	Connection(ctx context.Context, do ConnectionOp) error
	// Log writes a line to the twin's log. Level: debug, info, warn, error.
	Log(level, text string)
}

// Change is a property's new value. Value null means that it is not known any more.
type Change struct {
	Property string
	Value    json.RawMessage
	// Time in milliseconds since 1970; 0: now.
	Time    int64
	Quality Quality
}

// Emitted is an event that the driver announces.
type Emitted struct {
	Name string
	Data json.RawMessage
}

// Timer sets (or with Cancel removes) the twin's timer of that name. It is due After from now, or At a time, or as Cron
// says; Every > 0 repeats what is due After. At most one of After/Every, At and Cron is set.
type Timer struct {
	Name  string
	After time.Duration
	Every time.Duration
	// At in milliseconds since 1970; 0: not set. What is past is due at once.
	At int64
	// Cron is a schedule that package cron takes, in Zone (IANA; empty: UTC).
	Cron, Zone string
	Data       json.RawMessage
	Cancel     bool
}

// Subscription makes (or with Cancel ends) the twin's subscription to a property of another twin of its project.
type Subscription struct {
	// Twin is an id or a name of the own project; with System, a name within that system.
	Twin, System string
	Property     string
	Cancel       bool
}

// Discovery reports a device behind or near the twin's.
type Discovery struct {
	Network  string          `json:"network"`
	Key      string          `json:"key"`
	Value    string          `json:"value"`
	Name     string          `json:"name"`
	Driver   string          `json:"driver"`
	Settings json.RawMessage `json:"settings,omitempty"`
	// URI is the address that a twin for it would have; empty: none, or not known.
	URI string `json:"uri,omitempty"`
}

// Effects is what one successful call wants changed; the twin applies all of it or, where the commit fails, none.
type Effects struct {
	// Output is the result of a command, JSON; nil means null.
	Output []byte
	// Pending: the command's answer comes later. Until then frames arrive as EventAnswer; the call that returns without
	// Pending decides the command. Only for EventCommand and EventAnswer.
	Pending bool
	Changes []Change
	// Memory is the driver's private state, JSON; nil: unchanged.
	Memory []byte
	Events []Emitted
	Timers []Timer
	// Describe is a patch of the twin's Thing Model, JSON (merge patch); nil: unchanged.
	Describe   []byte
	Discovered []Discovery
	// Subscriptions that are made or ended, in order.
	Subscriptions []Subscription
}

// DriverError is a driver's own refusal: drv_handle returned > 0.
type DriverError struct {
	Code      int32  `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
	// After is when trying again makes sense, where the driver says so.
	After time.Duration `json:"-"`
}

func (e *DriverError) Error() string { return e.Message }

// Conn is a twin's live connection. Send may block until ctx ends. Methods may be called concurrently.
type Conn interface {
	Send(ctx context.Context, frame []byte) error
	// Close ends the connection and its reconnecting, and returns when no further call to the Sink comes.
	Close() error
}

// Sink hears of a connection. Calls come one at a time, in order.
type Sink interface {
	Connected()
	// Disconnected comes after each loss; err says why.
	Disconnected(err error)
	// Received gives one frame, which belongs to the sink. It blocks while the twin has too much waiting.
	Received(frame []byte)
}

// FailureSink is a Sink that also hears of attempts to connect.
type FailureSink interface {
	Sink
	// Failed comes after each attempt to connect that failed, in order with the Sink's other calls; err says why, in the
	// same words for the same reason. It must not block.
	Failed(err error)
}

// HandledSink is a Sink that says when it has handled a frame, so that one which it has not can be brought to it again,
// or to the twin's next node.
type HandledSink interface {
	Sink
	// ReceivedThen is Received; handled is called once the frame was handled, at any time and from any goroutine, and never where
	// the twin leaves without having handled it.
	ReceivedThen(frame []byte, handled func())
}

// TroubleSink is a Sink that also hears of what is wrong with a connection for which a device has to call in.
type TroubleSink interface {
	Sink
	// Troubled says what an operator has to mend, while the device waits or is connected; nil takes it back. It may be told
	// again and again, beside the Sink's other calls, and not after the connection's Close has returned. It must not block.
	Troubled(err error)
}

// Binding says how a twin's device is reached.
type Binding struct {
	// Twin is the id of the twin.
	Twin string
	// URI such as tcp://10.0.0.7:4352.
	URI string
	// Transport holds the manifest's options for this transport, the twin's settings filled in.
	Transport TransportOptions
	// HTTP is the manifest's, the settings filled in; nil: the capability http reaches the twin's own address alone.
	HTTP *HTTPReach
}
