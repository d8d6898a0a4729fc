package twin_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

func TestOtherTwins(t *testing.T) {
	d := newTwin(t, func(d *twin.Driver[settings, memory]) {
		twin.Command(d, "flash", func(t *tw, times int) (wire.Value, error) {
			return t.Call(twin.Other{Twin: "lamp", System: "room"}, "flash", times, 2*time.Second)
		})
		twin.Command(d, "set", func(t *tw, on bool) (twin.None, error) {
			return twin.None{}, t.SetOther(twin.Other{Twin: "lamp"}, "on", on, 0)
		})
		twin.Command(d, "get", func(t *tw, _ twin.None) (wire.Value, error) { return t.GetOther(twin.Other{Twin: "lamp"}, 0) })
		d.OnLoad(func(t *tw, _ string) error {
			return errors.Join(t.Subscribe(twin.Other{Twin: "lamp", System: "room"}, "on"), t.Subscribe(twin.Other{Twin: "a"}, "b"),
				t.Unsubscribe(twin.Other{Twin: "a"}, "b"))
		})
		d.OnChange(func(t *tw, c twin.Change) error {
			t.ReportAs("seen", c.Name+" "+c.System+" "+c.Property+" "+string(c.Value), c.Quality, time.Time{})
			return nil
		})
	})
	var asked []string
	d.Other = func(request wire.Value) (string, *twin.CallError) {
		asked = append(asked, string(request))
		if request.Get("get").Exists() {
			return "", &twin.CallError{Code: "not_found", Message: "there is no lamp"}
		}
		return `{"done":1}`, nil
	}
	if r := d.Command("flash", "3"); r.Output != `{"done":1}` {
		t.Errorf("call: %+v", r)
	}
	if r := d.Command("set", "true"); r.Err != nil {
		t.Errorf("set: %v", r.Err)
	}
	if r := d.Command("get", ""); r.Err == nil || r.Err.Message != "there is no lamp" {
		t.Errorf("get: %+v", r.Err)
	}
	want := `[{"twin":"lamp","system":"room","action":"flash","input":3,"timeout":2000} {"twin":"lamp","property":"on","value":true} {"twin":"lamp","get":true}]`
	if fmt.Sprint(asked) != want {
		t.Errorf("asked %v\nwant  %s", asked, want)
	}
	if d.Load("start"); fmt.Sprint(d.Subscriptions) != "map[room/lamp/on:true]" {
		t.Error(d.Subscriptions)
	}
	if d.Change(twin.Other{Twin: "lamp", System: "room"}, "on", "true"); d.Properties["seen"] != `"lamp room on true"` {
		t.Error(d.Properties)
	}
}

func TestHTTPAndWebhooks(t *testing.T) {
	d := newTwin(t, func(d *twin.Driver[settings, memory]) {
		twin.Command(d, "post", func(t *tw, text string) (string, error) {
			res, err := t.HTTP(twin.HTTPRequest{Method: "POST", URL: "/x", Headers: map[string]string{"a": "b"}, Body: []byte(text), Timeout: time.Second})
			if err != nil {
				return "", err
			}
			return fmt.Sprint(res.Status, " ", res.Headers["c"], " ", string(res.Body)), nil
		})
		d.OnWebhook(func(t *tw, r *twin.Webhook) (twin.WebhookAnswer, error) {
			if r.Method != "PUT" {
				return twin.WebhookAnswer{}, errors.New("no")
			}
			return twin.WebhookAnswer{Status: 202, Body: r.Query["q"] + r.Headers["h"] + r.Body}, nil
		})
	})
	d.HTTP = func(r twin.HTTPRequest) (twin.HTTPResponse, twin.Code) {
		if r.Method != "POST" || r.URL != "/x" || r.Headers["a"] != "b" || r.Timeout != time.Second {
			t.Errorf("request %+v", r)
		}
		return twin.HTTPResponse{Status: 201, Headers: map[string]string{"c": "d"}, Body: append([]byte("got "), r.Body...)}, 0
	}
	if r := d.Command("post", `"hi"`); r.Output != `"201 d got hi"` {
		t.Errorf("%+v", r)
	}
	d.HTTP = nil
	if r := d.Command("post", `"hi"`); r.Err == nil || r.Err.Code != 102 {
		t.Errorf("denied: %+v", r.Err)
	}
	if r := d.Webhook(twin.Webhook{Method: "PUT", Query: map[string]string{"q": "1"}, Headers: map[string]string{"h": "2"}, Body: "3"}); r.Output != `{"status":202,"body":"123"}` {
		t.Errorf("%+v", r)
	}
	if r := d.Webhook(twin.Webhook{Method: "GET"}); r.Err == nil {
		t.Error("a refusal is lost")
	}
	if r := newTwin(t, func(*twin.Driver[settings, memory]) {}).Webhook(twin.Webhook{Method: "GET"}); r.Output != `{"status":404,"body":"this twin takes no webhooks"}` {
		t.Errorf("%+v", r)
	}
}

func TestTimersScansAndTheConnection(t *testing.T) {
	d := newTwin(t, func(d *twin.Driver[settings, memory]) {
		d.OnLoad(func(t *tw, _ string) error {
			return errors.Join(t.At("at", time.UnixMilli(99), 1), t.Cron("cron", "0 7 * * *", "Europe/Berlin", nil), t.StartTLS(), t.Reconnect(), t.Sleep(), t.Wake())
		})
		d.OnScan(func(t *tw, timeout time.Duration, options wire.Value) error {
			return t.Discover(twin.Discovery{Network: "n", Key: timeout.String(), Value: string(options)})
		})
	})
	if r := d.Load("start"); r.Err != nil {
		t.Fatal(r.Err)
	}
	if c := d.Timers["cron"]; d.Timers["at"].At != 99 || d.Timers["at"].Data != "1" || c.Cron != "0 7 * * *" || c.Zone != "Europe/Berlin" {
		t.Errorf("%+v", d.Timers)
	}
	if fmt.Sprint(d.Connections) != "[starttls close sleep wake]" {
		t.Error(d.Connections)
	}
	d.Event(twin.EventScan, `{"timeout":1500,"options":{"a":1}}`)
	if fmt.Sprint(d.Discovered) != `[{"network":"n","key":"1.5s","value":"{\"a\":1}"}]` {
		t.Error(d.Discovered)
	}
	if r := d.Event(99, "not json"); r.Err != nil {
		t.Errorf("an event of a later version: %v", r.Err)
	}
}
