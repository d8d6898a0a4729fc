package main

import (
	"errors"
	"strconv"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// other is what a test has the probe ask of another twin.
type other struct {
	Twin      string     `json:"twin"`
	System    string     `json:"system"`
	Action    string     `json:"action"`
	Property  string     `json:"property"`
	Input     wire.Value `json:"input"`
	TimeoutMS int64      `json:"timeout_ms"`
	Cancel    bool       `json:"cancel"`
}

func (o *other) whom() twin.Other { return twin.Other{Twin: o.Twin, System: o.System} }

func (o *other) timeout() time.Duration { return time.Duration(o.TimeoutMS) * time.Millisecond }

// said is how another twin answered.
type said struct {
	Output wire.Value `json:"output,omitempty"`
	Code   string     `json:"code,omitempty"`
}

func saidOf(output wire.Value, err error) (said, error) {
	var refused *twin.CallError
	if errors.As(err, &refused) {
		return said{Code: refused.Code}, nil
	}
	return said{Output: output}, err
}

type schedule struct {
	Name string `json:"name"`
	Cron string `json:"cron"`
	Zone string `json:"zone"`
	AtMS int64  `json:"at_ms"`
}

type flood struct {
	Kind  string `json:"kind"`
	Times int    `json:"times"`
}

// outside are the commands and events that concern others than the device.
func outside(d *twin.Driver[Settings, Memory]) {
	twin.Command(d, "call", func(t *Twin, in other) (said, error) {
		return saidOf(t.Call(in.whom(), in.Action, in.Input, in.timeout()))
	})
	twin.Command(d, "put", func(t *Twin, in other) (said, error) {
		return saidOf(nil, t.SetOther(in.whom(), in.Property, in.Input, in.timeout()))
	})
	twin.Command(d, "peek", func(t *Twin, in other) (said, error) { return saidOf(t.GetOther(in.whom(), in.timeout())) })
	twin.Command(d, "follow", func(t *Twin, in other) (twin.None, error) {
		if in.Cancel {
			return twin.None{}, t.Unsubscribe(in.whom(), in.Property)
		}
		return twin.None{}, t.Subscribe(in.whom(), in.Property)
	})
	d.OnChange(func(t *Twin, c twin.Change) error {
		name := c.Name
		if c.System != "" {
			name = c.System + ":" + name
		}
		t.Memory().Heard += name + "." + c.Property + "=" + string(c.Value) + " " + string(c.Quality)
		if c.Missed > 0 {
			t.Memory().Heard += " missed " + strconv.Itoa(c.Missed)
		}
		t.Memory().Heard += ";"
		t.Report("heard", t.Memory().Heard)
		return nil
	})
	twin.Command(d, "schedule", func(t *Twin, in schedule) (twin.None, error) {
		if in.Cron != "" {
			return twin.None{}, t.Cron(in.Name, in.Cron, in.Zone, nil)
		}
		return twin.None{}, t.At(in.Name, time.UnixMilli(in.AtMS), nil)
	})
	twin.Command(d, "sleep", func(t *Twin, _ twin.None) (twin.None, error) { return twin.None{}, t.Sleep() })
	twin.Command(d, "power", func(t *Twin, _ twin.None) (twin.None, error) { return twin.None{}, t.Send([]byte("power\n")) })
	twin.Command(d, "again", func(t *Twin, in text) (text, error) {
		if err := t.Send([]byte(in.Text + "\n")); err != nil {
			return text{}, err
		}
		return text{}, twin.ErrPending
	})
	// flood does something many times, and gives how often the host took it.
	twin.Command(d, "flood", func(t *Twin, in flood) (int, error) {
		taken := 0
		for range in.Times {
			var err error
			switch in.Kind {
			case "events":
				err = t.Emit("fired", nil)
			case "sends":
				err = t.Send([]byte("x\n"))
			case "logs":
				t.Log("info", "again and again")
			case "calls":
				_, err = t.GetOther(twin.Other{Twin: "nobody"}, time.Second)
			}
			if err == nil {
				taken++
			}
		}
		return taken, nil
	})
	d.OnWebhook(func(t *Twin, r *twin.Webhook) (twin.WebhookAnswer, error) {
		if r.Path == "/no" {
			return twin.WebhookAnswer{}, &twin.Error{Code: 9, Message: "not here"}
		}
		t.Report("last", r.Body)
		return twin.WebhookAnswer{Status: 201, Body: r.Method + " " + r.Path + " " + r.Query["q"], Headers: map[string]string{"x-probe": "1"}}, nil
	})
}
