package twin

import (
	"bytes"
	"strconv"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// HTTPRequest is a request to a host that the manifest and the twin's binding allow.
type HTTPRequest struct {
	// Method is GET where it is empty.
	Method string
	// URL is absolute, or relative to the twin's address.
	URL     string
	Headers map[string]string
	Body    []byte
	// Timeout of the whole request; 0: 5 s.
	Timeout time.Duration
}

// HTTPResponse is the answer. Names of headers are in lower case; several values of one are joined by ", ", cookies by
// a line feed. Body is valid until the next call of the host.
type HTTPResponse struct {
	Status  int
	Headers map[string]string
	Body    []byte
}

// HTTP makes a request and waits for its answer. It holds an instance of the driver while it waits.
func (t *Twin[S, M]) HTTP(r HTTPRequest) (*HTTPResponse, error) {
	b, err := wire.Append(t.request[:0], &struct {
		Method  string            `json:"method,omitempty"`
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers,omitempty"`
		Timeout int64             `json:"timeout,omitempty"`
	}{r.Method, r.URL, r.Headers, r.Timeout.Milliseconds()})
	if err != nil {
		return nil, err
	}
	if r.Body != nil {
		b = append(append(b, 0), r.Body...)
	}
	t.request = b
	code, reply := callHTTP(t.host, b)
	if code < 0 {
		return nil, Code(code)
	}
	head, body, _ := bytes.Cut(reply, []byte{0})
	var answer struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
	}
	if err := wire.Unmarshal(head, &answer); err != nil {
		return nil, err
	}
	return &HTTPResponse{answer.Status, answer.Headers, body}, nil
}

// Other names another twin of the same project.
type Other struct {
	// Twin is its id or name; with System, its name within that system, such as Display_1.
	Twin   string `json:"twin"`
	System string `json:"system,omitempty"`
}

// CallError says why another twin did not do what it was asked.
type CallError struct {
	// Code: not_found, invalid, denied, loop, timeout, unavailable, refused.
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *CallError) Error() string { return e.Message }

// Call runs an action of another twin and waits for its output, which is valid until the next call of the host. A
// timeout of 0 is 5 s. What the other twin refuses is a *CallError.
func (t *Twin[S, M]) Call(whom Other, action string, input any, timeout time.Duration) (wire.Value, error) {
	b, err := t.whom(whom)
	if err != nil {
		return nil, err
	}
	b = wire.AppendString(append(b, `,"action":`...), action)
	if input != nil {
		if b, err = wire.Append(append(b, `,"input":`...), input); err != nil {
			return nil, err
		}
	}
	return t.ask(b, timeout)
}

// Notice is what a logic tells by a notifier. A message of the same ID goes out once.
type Notice struct {
	ID      string   `json:"id,omitempty"`
	Subject string   `json:"subject,omitempty"`
	Body    string   `json:"body,omitempty"`
	To      []string `json:"to,omitempty"`
	Urgent  bool     `json:"urgent,omitempty"`
}

// Notify tells somebody by a notifier of the project. It is for logic, and returns when the message is in the notifier's outbox.
func (t *Twin[S, M]) Notify(notifier string, n Notice, timeout time.Duration) error {
	b, err := t.whom(Other{Twin: notifier})
	if err != nil {
		return err
	}
	if b, err = wire.Append(append(b, `,"notify":`...), n); err != nil {
		return err
	}
	_, err = t.ask(b, timeout)
	return err
}

// SetOther asks another twin for a value of a property. It returns when the other twin took it, which may be before its
// device did.
func (t *Twin[S, M]) SetOther(whom Other, property string, value any, timeout time.Duration) error {
	b, err := t.whom(whom)
	if err != nil {
		return err
	}
	b = wire.AppendString(append(b, `,"property":`...), property)
	if b, err = wire.Append(append(b, `,"value":`...), value); err != nil {
		return err
	}
	_, err = t.ask(b, timeout)
	return err
}

// GetOther looks at another twin: {"properties":{NAME:VALUE…},"connected":BOOL}, valid until the next call of the host.
func (t *Twin[S, M]) GetOther(whom Other, timeout time.Duration) (wire.Value, error) {
	b, err := t.whom(whom)
	if err != nil {
		return nil, err
	}
	return t.ask(append(b, `,"get":true`...), timeout)
}

// whom begins a request, without the last brace.
func (t *Twin[S, M]) whom(whom Other) ([]byte, error) {
	b, err := wire.Append(t.request[:0], &whom)
	if err != nil {
		return nil, err
	}
	return b[:len(b)-1], nil
}

func (t *Twin[S, M]) ask(b []byte, timeout time.Duration) (wire.Value, error) {
	if timeout > 0 {
		b = strconv.AppendInt(append(b, `,"timeout":`...), timeout.Milliseconds(), 10)
	}
	t.request = append(b, '}')
	code, reply := callTwin(t.host, t.request)
	if code < 0 {
		return nil, Code(code)
	}
	doc, err := wire.Parse(reply)
	if err != nil {
		return nil, err
	}
	if refused := doc.Get("error"); refused.Exists() {
		e := &CallError{}
		if err := refused.Decode(e); err != nil {
			return nil, err
		}
		return nil, e
	}
	return doc.Get("output"), nil
}

// Subscribe lets OnChange's function hear of a property of another twin, until Unsubscribe. It survives restarts.
func (t *Twin[S, M]) Subscribe(whom Other, property string) error {
	return t.subscribe(whom, property, false)
}

// Unsubscribe ends it.
func (t *Twin[S, M]) Unsubscribe(whom Other, property string) error {
	return t.subscribe(whom, property, true)
}

func (t *Twin[S, M]) subscribe(whom Other, property string, cancel bool) error {
	b, err := t.whom(whom)
	if err != nil {
		return err
	}
	b = wire.AppendString(append(b, `,"property":`...), property)
	if cancel {
		b = append(b, `,"cancel":true`...)
	}
	t.request = append(b, '}')
	return refusal(callSubscribe(t.host, t.request))
}

// StartTLS goes on in TLS on a connection that began without, and returns when that is done.
func (t *Twin[S, M]) StartTLS() error { return t.connection(`{"do":"starttls"}`) }

// Reconnect drops the connection; the node dials again.
func (t *Twin[S, M]) Reconnect() error { return t.connection(`{"do":"close"}`) }

// Sleep says that the device sleeps: commands wait until Wake, within their validity.
func (t *Twin[S, M]) Sleep() error { return t.connection(`{"do":"sleep"}`) }

// Wake says that the device woke: commands that waited are sent.
func (t *Twin[S, M]) Wake() error { return t.connection(`{"do":"wake"}`) }

func (t *Twin[S, M]) connection(request string) error {
	t.request = append(t.request[:0], request...)
	return refusal(callConnection(t.host, t.request))
}

// Change of a property that was subscribed to.
type Change struct {
	// Twin is the id of the twin that changed; Name and System are what Subscribe named it by.
	Twin     string `json:"twin"`
	Name     string `json:"name"`
	System   string `json:"system"`
	Property string `json:"property"`
	// Value is null where it is not known.
	Value   wire.Value `json:"value"`
	Quality Quality    `json:"quality"`
	// Time when it was measured, in milliseconds since 1970.
	Time int64 `json:"time"`
	// Missed counts the changes before this one that were not told, because the driver was slow.
	Missed int `json:"missed"`
}

// Webhook is an HTTP request that came for the twin. Names of headers are in lower case.
type Webhook struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Query   map[string]string `json:"query"`
	Headers map[string]string `json:"headers"`
	// Body is text; what is no UTF-8 is in BodyBase64.
	Body       string `json:"body"`
	BodyBase64 string `json:"body_base64"`
}

// WebhookAnswer answers it; a Status of 0 is 200.
type WebhookAnswer struct {
	Status     int               `json:"status,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
	Body       string            `json:"body,omitempty"`
	BodyBase64 string            `json:"body_base64,omitempty"`
}

// dispatchOutside handles what comes from others than the device.
func (d *Driver[S, M]) dispatchOutside(t *Twin[S, M], event int32, doc wire.Value, out []byte) ([]byte, error) {
	switch {
	case event == EventSubscription && d.subscribed != nil:
		var c Change
		if err := doc.Decode(&c); err != nil {
			return out, &Error{Code: codeInput, Message: "change" + err.Error()}
		}
		return out, d.subscribed(t, c)
	case event == EventWebhook && d.webhook != nil:
		var r Webhook
		if err := doc.Decode(&r); err != nil {
			return out, &Error{Code: codeInput, Message: "webhook" + err.Error()}
		}
		answer, err := d.webhook(t, &r)
		if err != nil {
			return out, err
		}
		return wire.Append(out, &answer)
	case event == EventWebhook:
		return append(out, `{"status":404,"body":"this twin takes no webhooks"}`...), nil
	case event == EventScan && d.scan != nil:
		ms, _ := doc.Get("timeout").Int()
		return out, d.scan(t, time.Duration(ms)*time.Millisecond, doc.Get("options"))
	case event == EventRun && d.run != nil:
		return d.dispatchRun(t, doc, out)
	}
	return out, nil
}
