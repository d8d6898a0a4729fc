// The pjlink driver speaks PJLink class 1 with projectors and displays. See README.md.
package main

import (
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Settings of a projector's twin.
type Settings struct {
	Password string            `json:"password"`
	PollS    int               `json:"poll_s"`
	Inputs   map[string]string `json:"inputs"`
}

// Memory is what is kept between calls: where the one conversation with the projector stands.
type Memory struct {
	// Ready: the projector has greeted, on this connection.
	Ready bool `json:"ready,omitempty"`
	// Digest goes before the next command, which is the first of its connection.
	Digest string `json:"digest,omitempty"`
	// Asked is the command that waits for its answer, such as `POWR ?`; AskedAt its time in ms since 1970.
	Asked   string `json:"asked,omitempty"`
	AskedAt int64  `json:"asked_at,omitempty"`
	// Queue holds what is said next.
	Queue []string `json:"queue,omitempty"`
	// Wants is the command whose answer decides the pending call; everything: until the queue is empty.
	Wants string `json:"wants,omitempty"`
	// Later holds what is done once the projector is on, LaterUntil (ms since 1970) is when that is given up.
	Later      []string `json:"later,omitempty"`
	LaterUntil int64    `json:"later_until,omitempty"`
	// Inputs that the projector has, as codes.
	Inputs []string `json:"inputs,omitempty"`
	// Lacks are commands that the projector does not know.
	Lacks []string `json:"lacks,omitempty"`
	// Searching: this is a scan, and what comes are answers to it.
	Searching bool `json:"searching,omitempty"`
}

// Twin is a projector's twin.
type Twin = twin.Twin[Settings, Memory]

// Codes of refusals.
const (
	codeRefused  = 2 // by the projector: ERR1 or ERR2, or an input that does not exist
	codeNotNow   = 3 // ERR3: warming up, cooling down, or off
	codeFailure  = 4 // ERR4
	codePassword = 5
	codeOffline  = 6
)

func newDriver() *twin.Driver[Settings, Memory] {
	d := twin.New[Settings, Memory]()
	d.OnLoad(func(t *Twin, _ string) error {
		describe(t)
		return t.Every("poll", time.Duration(t.Settings().PollS)*time.Second, nil)
	})
	d.OnConnected(func(t *Twin) error {
		hangUp(t.Memory())
		return nil
	})
	d.OnDisconnected(func(t *Twin, _ string) error {
		hangUp(t.Memory())
		return nil
	})
	d.OnScan(search)
	d.OnReceived(func(t *Twin, frame []byte) error {
		if t.Memory().Searching {
			return found(t, frame)
		}
		decided, err := hear(t, frame)
		if decided && err != nil {
			// It refuses a command whose call is over. That is no fault of the device.
			t.Log("warn", err.Error())
			t.Memory().Wants = ""
			return ask(t)
		}
		return err
	})
	d.OnAnswer(func(t *Twin, frame []byte) (any, error) {
		decided, err := hear(t, frame)
		if err == nil && !decided {
			err = twin.ErrPending
		}
		return nil, err
	})
	d.OnTimer("poll", func(t *Twin, _ wire.Value) error { return poll(t) })
	d.OnTimer("settle", func(t *Twin, _ wire.Value) error { return ask(t, "POWR ?") })

	twin.Property(d, "power", setPower)
	twin.Property(d, "input", func(t *Twin, name string) error { return setInput(t, name, orderWhenOn) })
	twin.Property(d, "mute", func(t *Twin, on bool) error { return orderWhenOn(t, "AVMT 3"+digit(on)) })
	twin.Property(d, "mute_video", func(t *Twin, on bool) error { return orderWhenOn(t, "AVMT 1"+digit(on)) })
	twin.Property(d, "mute_audio", func(t *Twin, on bool) error { return orderWhenOn(t, "AVMT 2"+digit(on)) })
	twin.Command(d, "power", func(t *Twin, on bool) (twin.None, error) { return twin.None{}, setPower(t, on) })
	twin.Command(d, "input", func(t *Twin, name string) (twin.None, error) { return twin.None{}, setInput(t, name, order) })
	twin.Command(d, "mute", func(t *Twin, on bool) (twin.None, error) {
		return twin.None{}, order(t, "AVMT 3"+digit(on))
	})
	twin.Command(d, "refresh", func(t *Twin, _ twin.None) (twin.None, error) { return twin.None{}, refresh(t) })
	return d
}

func digit(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

// setPower does not send what a projector that is warming up or cooling down would refuse, though it is on its way there.
func setPower(t *Twin, on bool) error {
	m := t.Memory()
	if state := powerState(t); m.Ready && (on && state == "warming" || !on && state == "cooling") {
		t.Report("power", on)
		return ask(t, "POWR ?")
	}
	if !on {
		m.Later = nil
	}
	return order(t, "POWR "+digit(on))
}

// powerState is the one last reported.
func powerState(t *Twin) string {
	state, _ := t.Property("power_state").Text()
	return state
}

// setInput begins a change of the input by way of begin.
func setInput(t *Twin, name string, begin func(t *Twin, command string) error) error {
	code, ok := inputCode(name, t.Settings().Inputs)
	if !ok {
		return &twin.Error{Code: codeRefused, Message: "there is no input " + name}
	}
	return begin(t, "INPT "+code)
}

func init() { twin.Serve(newDriver()) }

func main() {}
