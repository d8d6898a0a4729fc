package drivers

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// HTTPRequest is a driver's request by the capability http.
type HTTPRequest struct {
	Method string
	// URL is absolute, or relative to the twin's address.
	URL     string
	Headers http.Header
	Body    []byte
	// Timeout of the whole request, more than 0.
	Timeout time.Duration
	// MaxBytes of the answer's body.
	MaxBytes int
}

// HTTPResponse answers it. Redirects were followed as far as the binding allows.
type HTTPResponse struct {
	Status  int
	Headers http.Header
	Body    []byte
}

// HTTPClient makes the HTTP requests of one twin. Do may be called concurrently; it blocks until the answer is there, ctx
// ends or the request's own time is over.
type HTTPClient interface {
	Do(ctx context.Context, request HTTPRequest) (HTTPResponse, error)
	// Close ends what waits, and idle connections.
	Close() error
}

// TwinCall is a driver's question to another twin: an action, a desired value of a property, or a look at its state; or, of a logic, a
// message for a notifier. Exactly one of Action, Property, Get and Notify is set.
type TwinCall struct {
	// Twin is an id or a name of the own project; with System, a name within that system such as Display_1.
	Twin, System string
	Action       string
	// Input of the action; nil: none.
	Input json.RawMessage
	// Property whose desired value becomes Value.
	Property string
	Value    json.RawMessage
	// Get asks for {"properties":{NAME:VALUE…},"connected":BOOL}.
	Get bool
	// Notify is a message for the notifier that Twin names: a Notice, JSON.
	Notify json.RawMessage
	// Timeout, more than 0.
	Timeout time.Duration
}

// Notice is what a logic tells by a notifier.
type Notice struct {
	// ID names the message: the same again is sent once. None: each is another.
	ID      string `json:"id,omitempty"`
	Subject string `json:"subject"`
	Body    string `json:"body,omitempty"`
	// To is whom to tell, instead of those that the notifier has.
	To []string `json:"to,omitempty"`
	// Urgent goes out in quiet hours, too.
	Urgent bool `json:"urgent,omitempty"`
}

// TwinAnswer is the output, or why there is none.
type TwinAnswer struct {
	Output json.RawMessage
	Error  *TwinError
}

// TwinError says why another twin did not do what it was asked.
type TwinError struct {
	// Code is one of the CallCodes.
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Codes of a TwinError.
const (
	CallNotFound    = "not_found"   // no such twin, action or property
	CallInvalid     = "invalid"     // the input does not fit the other twin's model
	CallDenied      = "denied"      // its rules do not let this twin
	CallLoop        = "loop"        // the other twin waits for this one, or the chain is too long
	CallTimeout     = "timeout"     // it did not answer in time
	CallUnavailable = "unavailable" // it is offline, halted, or on a node that cannot be reached
	CallRefused     = "refused"     // its driver refused; the message is the driver's
)

// ConnectionOp is what the capability connection does.
type ConnectionOp string

// The operations of a connection.
const (
	StartTLS        ConnectionOp = "starttls" // from now on TLS, on a transport that started without
	CloseConnection ConnectionOp = "close"    // drop it and dial again, after the transport's back-off
	Sleep           ConnectionOp = "sleep"    // the device sleeps: commands wait until it wakes
	Wake            ConnectionOp = "wake"     // the device listens again
)

// SubscriptionInput is the input of EventSubscription. It comes after each change, and once after the driver subscribed.
type SubscriptionInput struct {
	// Twin is the id of the twin that changed; Name and System are what it was subscribed by.
	Twin     string `json:"twin"`
	Name     string `json:"name"`
	System   string `json:"system,omitempty"`
	Property string `json:"property"`
	// Value is null where it is not known, or the twin or the property is not there.
	Value   json.RawMessage `json:"value"`
	Quality string          `json:"quality"`
	// Time when it was measured, in milliseconds since 1970.
	Time int64 `json:"time"`
	// Missed counts the changes before this one that the driver was not told of, because it was slow.
	Missed int `json:"missed,omitempty"`
}

// WebhookInput is the input of EventWebhook. Names of headers are in lower case, several values are joined by ", ".
type WebhookInput struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Query   map[string]string `json:"query"`
	Headers map[string]string `json:"headers"`
	// Body is UTF-8 text; a body that is none is in BodyBase64.
	Body       string `json:"body,omitempty"`
	BodyBase64 []byte `json:"body_base64,omitempty"`
}

// WebhookOutput is what a driver answers an HTTP request with; null: 204.
type WebhookOutput struct {
	Status     int               `json:"status"`
	Headers    map[string]string `json:"headers"`
	Body       string            `json:"body"`
	BodyBase64 []byte            `json:"body_base64"`
}

// RunInput is the input of EventRun: a message on its way, and where it comes from.
type RunInput struct {
	Message json.RawMessage `json:"message"`
	Context RunContext      `json:"context"`
}

// RunContext says whom a message is about and who sends it.
type RunContext struct {
	// Twin is the id of the twin that the message is about; empty: none.
	Twin string `json:"twin,omitempty"`
	// By is who gives it: route/ID, rule/ID, schedule/ID, or who asked for a run.
	By string `json:"by"`
	// Time of the message in milliseconds since 1970.
	Time int64 `json:"time"`
}

// ScanInput is the input of EventScan.
type ScanInput struct {
	// Timeout in milliseconds: the call ends then.
	Timeout int64           `json:"timeout"`
	Options json.RawMessage `json:"options"`
}

// Denied is a Host that refuses everything: embed it in a Host that offers only some of it.
type Denied struct{}

// Send implements Host.
func (Denied) Send(context.Context, []byte) error { return ErrDenied }

// Request implements Host.
func (Denied) Request(context.Context, []byte, time.Duration) ([]byte, error) { return nil, ErrDenied }

// Publish implements Host.
func (Denied) Publish(context.Context, string, []byte, byte, bool) error { return ErrDenied }

// HTTP implements Host.
func (Denied) HTTP(context.Context, HTTPRequest) (HTTPResponse, error) {
	return HTTPResponse{}, ErrDenied
}

// Call implements Host.
func (Denied) Call(context.Context, TwinCall) (TwinAnswer, error) { return TwinAnswer{}, ErrDenied }

// Connection implements Host.
func (Denied) Connection(context.Context, ConnectionOp) error { return ErrDenied }

// Log implements Host.
func (Denied) Log(string, string) {}
