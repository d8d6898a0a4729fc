package twin

import (
	"errors"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// The events of the contract, as drv_handle gets them.
const (
	EventLoad         = 1
	EventConnected    = 2
	EventDisconnected = 3
	EventReceived     = 4
	EventCommand      = 5
	EventTimer        = 6
	EventUnload       = 7
	EventMigrate      = 8
	EventSubscription = 9
	EventWebhook      = 10
	EventAnswer       = 11
	EventScan         = 12
	EventRun          = 13
)

// None is the input or output of a command that has none.
type None struct{}

// Driver is what a driver does, for twins with settings S that remember M. Functions are registered before Serve.
// An event without a function is ignored. Inputs such as frames are valid during the call only.
type Driver[S, M any] struct {
	types        types
	load         func(*Twin[S, M], string) error
	connected    func(*Twin[S, M]) error
	disconnected func(*Twin[S, M], string) error
	received     func(*Twin[S, M], []byte) error
	answer       func(*Twin[S, M], []byte) (any, error)
	unload       func(*Twin[S, M]) error
	migrate      func(*Twin[S, M], string) error
	subscribed   func(*Twin[S, M], Change) error
	webhook      func(*Twin[S, M], *Webhook) (WebhookAnswer, error)
	scan         func(*Twin[S, M], time.Duration, wire.Value) error
	run          func(*Twin[S, M], wire.Value, Context) (Verdict, error)
	timers       named[func(*Twin[S, M], wire.Value) error]
	commands     named[handler[S, M]]
	properties   named[handler[S, M]]
	write        func(*Twin[S, M], string, wire.Value) error

	settingsText []byte // what settings was decoded from
	settings     S
	twin         Twin[S, M]
}

// named is a short list by name. Comparing a few names costs a guest less than hashing one.
type named[F any] []struct {
	name string
	fn   F
}

func (n *named[F]) set(name string, fn F) {
	for i := range *n {
		if (*n)[i].name == name {
			(*n)[i].fn = fn
			return
		}
	}
	*n = append(*n, struct {
		name string
		fn   F
	}{name, fn})
}

func (n named[F]) get(v wire.Value) (fn F) {
	name, _ := v.Key()
	for i := range n {
		if n[i].name == string(name) {
			return n[i].fn
		}
	}
	return fn
}

type handler[S, M any] func(t *Twin[S, M], input wire.Value, out []byte) ([]byte, error)

// New returns a driver that does nothing yet.
func New[S, M any]() *Driver[S, M] {
	d := &Driver[S, M]{}
	noteSettings(d)
	return d
}

// OnLoad is called when the twin was activated; reason is start, settings or version.
func (d *Driver[S, M]) OnLoad(fn func(t *Twin[S, M], reason string) error) { d.load = fn }

// OnConnected is called when the device can be reached.
func (d *Driver[S, M]) OnConnected(fn func(t *Twin[S, M]) error) { d.connected = fn }

// OnDisconnected is called after each loss of the connection; reason says why.
func (d *Driver[S, M]) OnDisconnected(fn func(t *Twin[S, M], reason string) error) {
	d.disconnected = fn
}

// OnReceived is called with each frame of the device that is no answer of a pending command.
func (d *Driver[S, M]) OnReceived(fn func(t *Twin[S, M], frame []byte) error) { d.received = fn }

// OnMessage is OnReceived for MQTT: a frame is a message with its topic.
func (d *Driver[S, M]) OnMessage(fn func(t *Twin[S, M], topic string, payload []byte) error) {
	d.received = func(t *Twin[S, M], frame []byte) error {
		topic, payload := SplitMessage(frame)
		return fn(t, topic, payload)
	}
}

// OnAnswer is called with each frame that comes while a command is pending. ErrPending goes on waiting; any other
// return decides the command, with its output. What is not the answer may be treated as in OnReceived first.
func (d *Driver[S, M]) OnAnswer(fn func(t *Twin[S, M], frame []byte) (output any, err error)) {
	d.answer = fn
}

// OnTimer is called when the timer of that name is due, with the data that it was set with.
func (d *Driver[S, M]) OnTimer(name string, fn func(t *Twin[S, M], data wire.Value) error) {
	d.timers.set(name, fn)
}

// OnUnload is called before the twin is deactivated.
func (d *Driver[S, M]) OnUnload(fn func(t *Twin[S, M]) error) { d.unload = fn }

// OnMigrate is called once after the twin's driver changed from another version, to mend what it remembers.
func (d *Driver[S, M]) OnMigrate(fn func(t *Twin[S, M], from string) error) { d.migrate = fn }

// OnChange is called for each property that was subscribed to by Subscribe: once with its present value, then after each
// change.
func (d *Driver[S, M]) OnChange(fn func(t *Twin[S, M], change Change) error) { d.subscribed = fn }

// OnWebhook is called with an HTTP request that came for the twin, and answers it.
func (d *Driver[S, M]) OnWebhook(fn func(t *Twin[S, M], request *Webhook) (WebhookAnswer, error)) {
	d.webhook = fn
}

// OnScan is called to look for devices on the network, which Discover reports; it ends after the timeout at the latest.
// The options are those of whoever asked.
func (d *Driver[S, M]) OnScan(fn func(t *Twin[S, M], timeout time.Duration, options wire.Value) error) {
	d.scan = fn
}

// Command registers an action of the driver's model. The input is decoded into In, Out is encoded as the answer.
func Command[S, M, In, Out any](d *Driver[S, M], name string, fn func(t *Twin[S, M], in In) (Out, error)) {
	noteCommand[S, M, In, Out](d, name)
	d.commands.set(name, func(t *Twin[S, M], input wire.Value, out []byte) ([]byte, error) {
		var in In
		if len(input) > 0 {
			if err := input.Decode(&in); err != nil {
				return out, &Error{Code: codeInput, Message: name + ": input" + err.Error()}
			}
		}
		result, err := fn(t, in)
		if err != nil {
			return out, err
		}
		if _, none := any(result).(None); none {
			return append(out, "null"...), nil
		}
		return wire.Append(out, &result)
	})
}

// Property registers the writer of a writable property of the driver's model. It asks the device; the new value counts
// once it was reported.
func Property[S, M, V any](d *Driver[S, M], name string, fn func(t *Twin[S, M], value V) error) {
	noteProperty[S, M, V](d, name)
	d.properties.set(name, func(t *Twin[S, M], input wire.Value, out []byte) ([]byte, error) {
		var value V
		if err := input.Decode(&value); err != nil {
			return out, &Error{Code: codeInput, Message: name + ": value" + err.Error()}
		}
		return out, fn(t, value)
	})
}

// OnWrite is called for a writable property that no Property was registered for: one that Describe told of.
func (d *Driver[S, M]) OnWrite(fn func(t *Twin[S, M], property string, value wire.Value) error) {
	d.write = fn
}

// SplitMessage takes an MQTT frame apart.
func SplitMessage(frame []byte) (topic string, payload []byte) {
	i := wire.IndexByte(frame, 0)
	if i < 0 {
		return string(frame), nil
	}
	return string(frame[:i]), frame[i+1:]
}

// Handle makes one call on a host: what drv_handle does. Tests use it through package twintest. One call at a time.
func (d *Driver[S, M]) Handle(host Host, event int32, input []byte) (code int32, output []byte) {
	t := &d.twin
	t.begin(d, host)
	out, err := d.dispatch(t, event, input, t.output[:0])
	pending := errors.Is(err, ErrPending)
	if err != nil && !pending {
		return d.fail(t, err)
	}
	if err := t.flush(); err != nil {
		return d.fail(t, err)
	}
	t.output = out
	if pending {
		return returnPending, nil
	}
	return returnDone, out
}

func (d *Driver[S, M]) fail(t *Twin[S, M], err error) (int32, []byte) {
	e := toError(err)
	t.output = e.appendJSON(t.output[:0])
	return e.Code, t.output
}

func (d *Driver[S, M]) dispatch(t *Twin[S, M], event int32, input, out []byte) ([]byte, error) {
	switch event {
	case EventReceived:
		if d.received != nil {
			return out, d.received(t, input)
		}
		return out, nil
	case EventAnswer:
		return d.dispatchAnswer(t, input, out)
	case EventConnected:
		if d.connected != nil {
			return out, d.connected(t)
		}
		return out, nil
	case EventUnload:
		if d.unload != nil {
			return out, d.unload(t)
		}
		return out, nil
	}
	if event < EventLoad || event > EventRun || event == EventRun && d.run == nil {
		return out, nil // of a later version, or for logic
	}
	doc, err := wire.Parse(input)
	if err != nil {
		return out, &Error{Code: codeInput, Message: "event: " + err.Error()}
	}
	switch event {
	case EventCommand:
		return d.dispatchCommand(t, doc, out)
	case EventTimer:
		if fn := d.timers.get(doc.Get("name")); fn != nil {
			return out, fn(t, doc.Get("data"))
		}
	case EventLoad:
		if d.load != nil {
			reason, _ := doc.Get("reason").Text()
			return out, d.load(t, reason)
		}
	case EventDisconnected:
		if d.disconnected != nil {
			reason, _ := doc.Get("error").Text()
			return out, d.disconnected(t, reason)
		}
	case EventSubscription, EventWebhook, EventScan, EventRun:
		return d.dispatchOutside(t, event, doc, out)
	case EventMigrate:
		if d.migrate != nil {
			from, _ := doc.Get("from").Text()
			return out, d.migrate(t, from)
		}
	}
	return out, nil
}

func (d *Driver[S, M]) dispatchAnswer(t *Twin[S, M], frame, out []byte) ([]byte, error) {
	if d.answer == nil {
		if d.received != nil {
			if err := d.received(t, frame); err != nil {
				return out, err
			}
		}
		return out, ErrPending
	}
	result, err := d.answer(t, frame)
	if err != nil {
		return out, err
	}
	return wire.Append(out, result)
}

func (d *Driver[S, M]) dispatchCommand(t *Twin[S, M], doc wire.Value, out []byte) ([]byte, error) {
	if v := doc.Get("property"); v != nil {
		if fn := d.properties.get(v); fn != nil {
			return fn(t, doc.Get("value"), out)
		}
		name, _ := v.Text()
		if d.write != nil {
			return out, d.write(t, name, doc.Get("value"))
		}
		return out, &Error{Code: codeUnknown, Message: "the driver has no writer for property " + name}
	}
	action := doc.Get("action")
	if fn := d.commands.get(action); fn != nil {
		return fn(t, doc.Get("input"), out)
	}
	name, _ := action.Text()
	return out, &Error{Code: codeUnknown, Message: "the driver has no action " + name}
}
