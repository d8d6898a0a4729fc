// The esphome driver speaks ESPHome's native API without encryption: it logs in, asks what the device has, makes that the twin's
// properties, and has the device tell each change. See README.md.
package main

import (
	"strconv"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Settings of a twin.
type Settings struct {
	Password string `json:"password"`
	Ping     int    `json:"ping_s"`
}

// Memory is what is kept between calls.
type Memory struct {
	// Rest is the beginning of a message that is not whole yet, in base64.
	Rest string `json:"rest,omitempty"`
	// Entities that the device has; Listed those that it told of since it was asked again.
	Entities []Entity `json:"entities,omitempty"`
	Listed   []Entity `json:"listed,omitempty"`
	// Live: the device tells its changes and takes commands.
	Live bool `json:"live,omitempty"`
	// Pings that the device has yet to answer; at the answer of the one before which Await others go the pending command is done.
	Pings int `json:"pings,omitempty"`
	Await int `json:"await,omitempty"`
	// Scanning: this is a scan, and what comes are answers to it.
	Scanning bool `json:"scanning,omitempty"`
}

// Twin is a device's twin.
type Twin = twin.Twin[Settings, Memory]

type target struct {
	Entity string `json:"entity"`
}

func newDriver() *twin.Driver[Settings, Memory] {
	d := twin.New[Settings, Memory]()
	d.OnConnected(func(t *Twin) error {
		*t.Memory() = Memory{Entities: t.Memory().Entities}
		if err := t.Every("ping", time.Duration(t.Settings().Ping)*time.Second, nil); err != nil {
			return err
		}
		return t.Send(pack(helloRequest, message{}.text(1, "Pollux").uint(2, 1).uint(3, 10)))
	})
	d.OnDisconnected(func(t *Twin, _ string) error {
		t.Memory().Live = false
		return t.Cancel("ping")
	})
	d.OnTimer("ping", func(t *Twin, _ wire.Value) error { return ping(t) })
	d.OnScan(scan)
	d.OnReceived(func(t *Twin, frame []byte) error {
		if t.Memory().Scanning {
			return found(t, frame)
		}
		return hear(t, frame)
	})
	d.OnAnswer(func(t *Twin, chunk []byte) (any, error) {
		waits := t.Memory().Await > 0
		if err := hear(t, chunk); err != nil {
			return nil, err
		}
		if waits && t.Memory().Await > 0 {
			return nil, twin.ErrPending
		}
		return nil, nil
	})
	d.OnWrite(func(t *Twin, property string, v wire.Value) error { return write(t, property, v) })
	twin.Command(d, "press", func(t *Twin, in target) (twin.None, error) {
		e, err := find(t, in.Entity, button)
		if err != nil {
			return twin.None{}, err
		}
		return twin.None{}, command(t, 62, e.message())
	})
	twin.Command(d, "stop", func(t *Twin, in target) (twin.None, error) {
		e, err := find(t, in.Entity, cover)
		if err != nil {
			return twin.None{}, err
		}
		return twin.None{}, command(t, 30, e.message().bool(8, true))
	})
	return d
}

// ping asks for a sign of life.
func ping(t *Twin) error {
	t.Memory().Pings++
	return t.Send(pack(pingRequest, nil))
}

// command sends one, and a ping behind it: devices do not answer commands, but do one thing after the other. It stays pending.
func command(t *Twin, kind int, m message) error {
	if !t.Memory().Live {
		return &twin.Error{Code: 3, Message: "the device has not said yet what it has", Retryable: true}
	}
	if err := t.Send(pack(kind, m)); err != nil {
		return err
	}
	if err := ping(t); err != nil {
		return err
	}
	t.Memory().Await = t.Memory().Pings
	return twin.ErrPending
}

// hear takes what arrived: the end of a message, some messages, the beginning of one.
func hear(t *Twin, chunk []byte) error {
	m := t.Memory()
	b := chunk
	if m.Rest != "" {
		b = append(kept(m.Rest), chunk...)
		m.Rest = ""
	}
	patch := newPatch()
	for {
		kind, body, n, err := cut(b)
		if err != nil {
			return refuse(t, err)
		}
		if n == 0 {
			break
		}
		b = b[n:]
		if err := take(t, kind, parse(body), patch); err != nil {
			return err
		}
	}
	if len(b) > 0 {
		m.Rest = keep(b)
	}
	if patch.empty() {
		return nil
	}
	return t.Describe(patch.value())
}

// refuse gives a connection up on which nothing can be understood any more.
func refuse(t *Twin, why error) error {
	m := t.Memory()
	m.Rest, m.Live, m.Await = "", false, 0
	if said, _ := t.Property("device_problem").Text(); said != why.Error() {
		t.Report("device_problem", why.Error())
		t.Log("error", why.Error())
	}
	if err := t.Reconnect(); err != nil {
		t.Log("warn", "drop the connection: "+err.Error())
	}
	return nil
}

// take does what a message asks for.
func take(t *Twin, kind int, f fields, patch *patch) error {
	m := t.Memory()
	switch kind {
	case helloResponse:
		return greeted(t, f)
	case loginResponse:
		if f.bool(1) {
			t.Report("device_problem", "the device refuses the password")
			t.Log("error", "the device refuses the password: see the setting password")
		}
	case closeRequest:
		m.Live = false
		return t.Send(pack(closeResponse, nil))
	case pingRequest:
		return t.Send(pack(pingResponse, nil))
	case pingResponse:
		m.Pings = max(m.Pings-1, 0)
		m.Await = max(m.Await-1, 0)
	case timeRequest:
		return t.Send(pack(timeResponse, message{}.fixed(1, uint32(time.Now().Unix()))))
	case infoResponse:
		for field, name := range map[int]string{2: "device_name", 3: "device_mac", 4: "device_firmware", 6: "device_model", 12: "device_maker", 13: "device_title"} {
			if text := f.text(field); text != "" {
				t.Report(name, text)
			}
		}
	case listDone:
		return listed(t, patch)
	default:
		if !list(t, kind, f, patch) {
			state(t, kind, f)
		}
	}
	return nil
}

// defaultPort of the API.
const defaultPort = 6053

// passwordless is the minor version of the API since which a login is not needed where there is no password.
const passwordless = 12

// greeted goes on after the device's greeting.
func greeted(t *Twin, f fields) error {
	if major := f.uint(1); major > 1 {
		return refuse(t, &twin.Error{Message: "the device speaks version " + strconv.FormatUint(major, 10) + " of the API; this driver knows version 1"})
	}
	t.Memory().Listed = nil
	if password := t.Settings().Password; password != "" || f.uint(2) < passwordless {
		if err := t.Send(pack(loginRequest, message{}.text(1, password))); err != nil {
			return err
		}
	}
	if err := t.Send(pack(infoRequest, nil)); err != nil {
		return err
	}
	return t.Send(pack(listRequest, nil))
}

// listed has the device tell its changes, once it told all that it has. What it had before and has no more leaves the model.
func listed(t *Twin, patch *patch) error {
	m := t.Memory()
	for _, old := range m.Entities {
		for _, p := range old.parts() {
			if _, still := owner(m.Listed, old.Name+p); !still {
				t.Report(old.Name+p, nil)
				patch.remove(old.Name + p)
			}
		}
	}
	m.Entities, m.Listed, m.Live = m.Listed, nil, true
	t.Report("device_problem", nil)
	return t.Send(pack(statesRequest, nil))
}

func init() { twin.Serve(newDriver()) }

func main() {}
