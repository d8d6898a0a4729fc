// The tasmota driver speaks with devices that run Tasmota firmware, over MQTT. See README.md.
package main

import (
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// maxRelays is how many relays a device can have.
const maxRelays = 32

// Settings of a device's twin.
type Settings struct {
	Topic    string `json:"topic"`
	Discover bool   `json:"discover"`
}

// Memory is what is kept between calls.
type Memory struct {
	// Seen are the properties that this device has beyond those that all have, by name; see describe.go.
	Seen map[string]string `json:"seen,omitempty"`
	// Names are what the device calls its relays.
	Names []string `json:"names,omitempty"`
	// Relays counts them; 0: not known.
	Relays int `json:"relays,omitempty"`
	// Full: more properties were seen than are taken; said once.
	Full bool `json:"full,omitempty"`
	// Await is the member of the answer that decides the pending call, such as POWER2; one of the constants otherwise.
	Await string `json:"await,omitempty"`
	// Want is the value that it must have; empty: any.
	Want string `json:"want,omitempty"`

	// Color is the colour that was asked for, in its own letters: the device's answer is reported in the same.
	Color string `json:"color,omitempty"`
	// Unanswered: the device was asked for everything, and has said nothing of it yet.
	Unanswered bool `json:"unanswered,omitempty"`

	// changed: the model is to be described again at the end of this call.
	changed bool
}

// What Memory.Await holds where it is no member's name.
const (
	awaitStatus = "*STATUS11" // the last part of the answer to Status 0
	awaitAny    = "*"         // any answer
)

// Twin is a device's twin.
type Twin = twin.Twin[Settings, Memory]

// Codes of refusals.
const (
	codeUnknown = 2 // the device does not know the command
	codeRefused = 3 // the device answered with another state
	codeNoRelay = 4
)

func newDriver() *twin.Driver[Settings, Memory] {
	d := twin.New[Settings, Memory]()
	d.OnLoad(func(t *Twin, _ string) error {
		describe(t)
		return nil
	})
	d.OnConnected(func(t *Twin) error {
		if t.Settings().Topic == "" {
			return nil
		}
		return askAll(t)
	})
	d.OnMessage(func(t *Twin, topic string, payload []byte) error {
		if _, err := hear(t, topic, payload); err != nil {
			return err
		}
		describeChanged(t)
		return askAgain(t, topic)
	})
	d.OnAnswer(func(t *Twin, frame []byte) (any, error) {
		output, err := answer(t, frame)
		describeChanged(t)
		return output, err
	})
	for n := 1; n <= maxRelays; n++ {
		twin.Property(d, "power"+strconv.Itoa(n), func(t *Twin, on bool) error { return switchRelay(t, n, onOff(on)) })
	}
	twin.Property(d, "on", func(t *Twin, on bool) error { return switchRelay(t, 1, onOff(on)) })
	twin.Property(d, "dimmer", func(t *Twin, percent int) error {
		return order(t, "Dimmer", strconv.Itoa(percent), "Dimmer", "")
	})
	twin.Property(d, "color", func(t *Twin, color string) error {
		t.Memory().Color = color
		return order(t, "Color", strings.ToUpper(strings.TrimPrefix(color, "#")), "Color", "")
	})
	twin.Property(d, "hsb", func(t *Twin, hsb string) error { return order(t, "HSBColor", hsb, "HSBColor", "") })
	twin.Property(d, "ct", func(t *Twin, mired int) error { return order(t, "CT", strconv.Itoa(mired), "CT", "") })
	twin.Property(d, "white", func(t *Twin, percent int) error {
		return order(t, "White", strconv.Itoa(percent), "White", "")
	})
	registerActions(d)
	return d
}

type relayInput struct {
	Relay int  `json:"relay"`
	On    bool `json:"on"`
}

type commandInput struct {
	Command string `json:"command"`
	Payload string `json:"payload"`
}

func registerActions(d *twin.Driver[Settings, Memory]) {
	twin.Command(d, "power", func(t *Twin, in relayInput) (twin.None, error) {
		return twin.None{}, switchRelay(t, max(in.Relay, 1), onOff(in.On))
	})
	twin.Command(d, "toggle", func(t *Twin, in relayInput) (twin.None, error) {
		return twin.None{}, switchRelay(t, max(in.Relay, 1), "TOGGLE")
	})
	twin.Command(d, "refresh", func(t *Twin, _ twin.None) (twin.None, error) {
		return twin.None{}, order(t, "Status", "0", awaitStatus, "")
	})
	twin.Command(d, "command", func(t *Twin, in commandInput) (wire.Value, error) {
		return nil, order(t, in.Command, in.Payload, awaitAny, "")
	})
}

func onOff(on bool) string {
	if on {
		return "ON"
	}
	return "OFF"
}

// send publishes a command to the device.
func send(t *Twin, command, payload string) error {
	return t.Publish("cmnd/"+t.Settings().Topic+"/"+command, []byte(payload), 1, false)
}

// askAll has the device tell all that it knows.
func askAll(t *Twin) error {
	t.Memory().Unanswered = true
	return send(t, "Status", "0")
}

// askAgain asks a device that may have missed it the first time: the firmware says that it is online before it
// subscribes, and both INFO3 and STATE come after that.
func askAgain(t *Twin, topic string) error {
	if !t.Memory().Unanswered {
		return nil
	}
	if prefix, name := ends(topic); prefix != "tele" || name != "INFO3" && name != "STATE" {
		return nil
	}
	return askAll(t)
}

// order sends a command whose answer decides the call: the member await of a RESULT, with the value want unless it is
// empty.
func order(t *Twin, command, payload, await, want string) error {
	if t.Settings().Topic == "" {
		return &twin.Error{Code: codeRefused, Message: "a bridge has no device of its own: the setting topic is empty"}
	}
	m := t.Memory()
	m.Await, m.Want = await, want
	if err := send(t, command, payload); err != nil {
		return err
	}
	return twin.ErrPending
}

// switchRelay refuses a relay that is not there: the device itself would switch its first one instead.
func switchRelay(t *Twin, n int, state string) error {
	m := t.Memory()
	if n > 1 && n > m.Relays {
		return &twin.Error{
			Code: codeNoRelay, Message: "there is no relay " + strconv.Itoa(n) + ": the device has " + strconv.Itoa(m.Relays),
			Retryable: m.Relays == 0,
		}
	}
	want := state
	if state == "TOGGLE" {
		want = ""
	}
	return order(t, "Power"+strconv.Itoa(n), state, powerKey(n), want)
}

func init() { twin.Serve(newDriver()) }

func main() {}
