// The probe driver does on command whatever a test wants to see: it answers, reports, fails, loops, traps.
package main

import (
	"strconv"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Settings of a probe.
type Settings struct {
	Topic  string `json:"topic"`
	Secret string `json:"secret"`
	// Mute probes send what a property is set to, and report only what their device says.
	Mute bool `json:"mute"`
	// Later has mute probes wait for the device's answer.
	Later bool `json:"later"`
	// Poll is the period of a timer that is set at load, in milliseconds.
	Poll int64 `json:"poll"`
	// Fragile: the load of another version crashes.
	Fragile bool `json:"fragile"`
}

// Memory of a probe.
type Memory struct {
	Count    int    `json:"count"`
	Loads    int    `json:"loads"`
	Ups      int    `json:"ups"`
	Downs    int    `json:"downs"`
	Fired    int    `json:"fired"`
	Polls    int    `json:"polls"`
	Failures int    `json:"failures"`
	Order    string `json:"order"`
	Heard    string `json:"heard"`
}

// Twin is a probe.
type Twin = twin.Twin[Settings, Memory]

type text struct {
	Text      string `json:"text"`
	TimeoutMS int64  `json:"timeout_ms"`
	Times     int    `json:"times"`
	Topic     string `json:"topic"`
}

type timer struct {
	Name  string     `json:"name"`
	After int64      `json:"after_ms"`
	Every int64      `json:"every_ms"`
	Data  wire.Value `json:"data"`
}

func newDriver() *twin.Driver[Settings, Memory] {
	d := twin.New[Settings, Memory]()
	events(d)
	commands(d)
	failures(d)
	outside(d)
	return d
}

func events(d *twin.Driver[Settings, Memory]) {
	d.OnLoad(func(t *Twin, reason string) error {
		if t.Settings().Fragile && reason == "version" {
			panic("fragile")
		}
		t.Memory().Loads++
		t.Report("loads", t.Memory().Loads)
		t.Report("reason", reason)
		t.Report("topic", t.Settings().Topic)
		if t.Settings().Poll > 0 {
			return t.Every("poll", time.Duration(t.Settings().Poll)*time.Millisecond, nil)
		}
		return nil
	})
	d.OnConnected(func(t *Twin) error {
		t.Memory().Ups++
		t.Report("ups", t.Memory().Ups)
		return nil
	})
	d.OnDisconnected(func(t *Twin, _ string) error {
		t.Memory().Downs++
		t.Report("downs", t.Memory().Downs)
		return nil
	})
	d.OnMigrate(func(t *Twin, from string) error {
		t.Report("migrated", from)
		return nil
	})
	d.OnUnload(func(t *Twin) error {
		t.Log("info", "unloaded")
		return nil
	})
	d.OnReceived(received)
	d.OnAnswer(func(_ *Twin, frame []byte) (any, error) {
		switch string(frame) {
		case "wait":
			return nil, twin.ErrPending
		case "no":
			return nil, &twin.Error{Code: 9, Message: "the device said no"}
		case "busy":
			return nil, &twin.Error{Message: "the device is busy", Retryable: true}
		}
		return text{Text: string(frame)}, nil
	})
	d.OnTimer("poll", func(t *Twin, _ wire.Value) error {
		t.Memory().Polls++
		t.Report("polls", t.Memory().Polls)
		return nil
	})
	for _, name := range []string{"one", "two"} {
		d.OnTimer(name, func(t *Twin, data wire.Value) error {
			t.Memory().Fired++
			t.Report("fired", t.Memory().Fired)
			return t.Emit("fired", data)
		})
	}
}

// received takes an object of properties, or the word "panic".
func received(t *Twin, frame []byte) error {
	_, payload := twin.SplitMessage(frame)
	if payload == nil {
		payload = frame
	}
	switch string(payload) {
	case "panic":
		panic("as the device wished")
	case "awake":
		return t.Wake()
	case "asleep":
		return t.Sleep()
	}
	doc, err := wire.Parse(payload)
	if err != nil {
		t.Report("last", string(payload))
		return nil
	}
	doc.Each(func(name string, value wire.Value) bool {
		t.Report(name, value)
		return true
	})
	return nil
}

func commands(d *twin.Driver[Settings, Memory]) {
	twin.Command(d, "echo", func(_ *Twin, in wire.Value) (wire.Value, error) { return in, nil })
	twin.Command(d, "whisper", func(t *Twin, _ twin.None) (string, error) { return t.Settings().Secret, nil })
	twin.Command(d, "report", func(t *Twin, in wire.Value) (twin.None, error) {
		in.Each(func(name string, value wire.Value) bool {
			t.Report(name, value)
			return true
		})
		return twin.None{}, nil
	})
	twin.Command(d, "count", func(t *Twin, _ twin.None) (int, error) {
		t.Memory().Count++
		t.Report("count", t.Memory().Count)
		return t.Memory().Count, nil
	})
	twin.Command(d, "note", func(t *Twin, in text) (twin.None, error) {
		t.Memory().Order += in.Text
		t.Report("order", t.Memory().Order)
		return twin.None{}, nil
	})
	twin.Command(d, "send", func(t *Twin, in text) (twin.None, error) { return twin.None{}, t.Send([]byte(in.Text + "\n")) })
	twin.Command(d, "ask", func(t *Twin, in text) (text, error) {
		answer, err := t.Request([]byte(in.Text+"\n"), time.Duration(in.TimeoutMS)*time.Millisecond)
		return text{Text: string(answer)}, err
	})
	twin.Command(d, "later", func(t *Twin, in text) (text, error) {
		if err := t.Send([]byte(in.Text + "\n")); err != nil {
			return text{}, err
		}
		return text{}, twin.ErrPending
	})
	twin.Command(d, "tell", func(t *Twin, in text) (text, error) {
		if err := t.Publish(in.Text, []byte("?"), 0, false); err != nil {
			return text{}, err
		}
		return text{}, twin.ErrPending
	})
	twin.Command(d, "timer", func(t *Twin, in timer) (twin.None, error) {
		if in.Every > 0 {
			return twin.None{}, t.Every(in.Name, time.Duration(in.Every)*time.Millisecond, in.Data)
		}
		return twin.None{}, t.After(in.Name, time.Duration(in.After)*time.Millisecond, in.Data)
	})
	twin.Command(d, "cancel", func(t *Twin, in timer) (twin.None, error) { return twin.None{}, t.Cancel(in.Name) })
	twin.Command(d, "log", func(t *Twin, in text) (twin.None, error) {
		t.Log("info", in.Text)
		return twin.None{}, nil
	})
	twin.Command(d, "describe", func(t *Twin, in wire.Value) (twin.None, error) { return twin.None{}, t.Describe(in) })
	twin.Command(d, "discover", func(t *Twin, in text) (twin.None, error) {
		found := twin.Discovery{Network: "probe", Key: "serial", Value: in.Text, Name: "found " + in.Text}
		if in.Topic != "" {
			found.Driver, found.Settings = "bus", wire.Value(`{"topic":"`+in.Topic+`"}`)
		}
		return twin.None{}, t.Discover(found)
	})
	twin.Property(d, "level", set("level"))
	twin.Property(d, "on", set("on"))
}

func set(name string) func(t *Twin, value wire.Value) error {
	return func(t *Twin, value wire.Value) error {
		if t.Settings().Mute {
			err := t.Send([]byte(name + "=" + string(value) + "\n"))
			if err == nil && t.Settings().Later {
				return twin.ErrPending
			}
			return err
		}
		t.Report(name, value)
		return nil
	}
}

func failures(d *twin.Driver[Settings, Memory]) {
	twin.Command(d, "fail", func(_ *Twin, in text) (twin.None, error) {
		return twin.None{}, &twin.Error{Code: 7, Message: in.Text}
	})
	// flaky fails, and asks to be tried again; what it wrote down is dropped with its error, so it counts in the device.
	twin.Command(d, "flaky", func(t *Twin, in text) (twin.None, error) {
		answer, err := t.Request([]byte(in.Text+"\n"), time.Second)
		if err != nil {
			return twin.None{}, err
		}
		if n, _ := strconv.Atoi(string(answer)); n < in.Times {
			return twin.None{}, &twin.Error{Message: "busy", Retryable: true}
		}
		return twin.None{}, nil
	})
	twin.Command(d, "panic", func(t *Twin, _ twin.None) (twin.None, error) {
		t.Report("level", 99) // has no effect
		panic("on command")
	})
	twin.Command(d, "loop", func(*Twin, twin.None) (int, error) {
		n := 0
		for {
			n++
		}
	})
	twin.Command(d, "grow", func(*Twin, twin.None) (int, error) {
		var hold [][]byte
		for {
			b := make([]byte, 1<<20)
			b[len(hold)%len(b)] = 1
			hold = append(hold, b)
		}
	})
}

func init() { twin.Serve(newDriver()) }

func main() {}
