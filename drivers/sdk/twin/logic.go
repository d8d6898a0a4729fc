package twin

import "github.com/polluxhq/pollux/drivers/sdk/wire"

// Verdict is what a logic's run says of a message: Pass, Stop, or Replace.
type Verdict struct {
	stop    bool
	replace bool
	with    any
}

// Pass lets the message go on as it is.
var Pass = Verdict{}

// Stop ends the message's way.
var Stop = Verdict{stop: true}

// Replace lets another message go on instead: any JSON.
func Replace(message any) Verdict { return Verdict{replace: true, with: message} }

// Context says whom a message is about and who sends it.
type Context struct {
	// Twin is the id of the twin that the message is about; empty: none.
	Twin string `json:"twin"`
	// By is who gives it, such as route/default/alerts, topic/default/orders, notifier/default/desk or detector/default/spikes.
	By string `json:"by"`
	// Time in milliseconds since 1970.
	Time int64 `json:"time"`
	// ID tells a repetition; empty: there is none.
	ID string `json:"id"`
	// Key and Headers are those of a topic's message, and Attempt is how often it has been given, 1 for the first time.
	Key     string            `json:"key"`
	Headers map[string]string `json:"headers"`
	Attempt int               `json:"attempt"`
}

// OnRun is called with a message on its way through a route, of a rule, of a topic that the logic reads, of a notifier, or with a reading to be
// judged, and says what becomes of it. It runs beside the logic's other
// events, wherever the message is: what it remembers there is {"twin":…,"script":…}, for the twin that the message is about and for the
// logic, and its reports, events and timers are refused.
func (d *Driver[S, M]) OnRun(fn func(t *Twin[S, M], message wire.Value, context Context) (Verdict, error)) {
	d.run = fn
}

func (d *Driver[S, M]) dispatchRun(t *Twin[S, M], doc wire.Value, out []byte) ([]byte, error) {
	var c Context
	if err := doc.Get("context").Decode(&c); err != nil {
		return out, &Error{Code: codeInput, Message: "context" + err.Error()}
	}
	v, err := d.run(t, doc.Get("message"), c)
	switch {
	case err != nil:
		return out, err
	case v.stop:
		return append(out, `{"stop":true}`...), nil
	case v.replace:
		if out, err = wire.Append(append(out, `{"replace":`...), v.with); err != nil {
			return out, err
		}
		return append(out, '}'), nil
	}
	return append(out, "null"...), nil
}
