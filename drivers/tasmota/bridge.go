package main

import (
	"strings"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// suggested are the settings that a twin of a found device would have.
type suggested struct {
	Topic string `json:"topic"`
}

// discovered takes tasmota/discovery/MAC/config, which newer firmware keeps retained.
func discovered(t *Twin, topic string, payload []byte) error {
	if !t.Settings().Discover || !strings.HasSuffix(topic, "/config") || len(payload) == 0 {
		return nil // empty: the device does not want to be found any more
	}
	doc, err := wire.Parse(payload)
	if err != nil || doc.Kind() != wire.Object {
		return &twin.Error{Message: "discovery holds no JSON object"}
	}
	device, _ := doc.Get("t").Text()
	name, _ := doc.Get("dn").Text()
	if full, ok := doc.Get("ft").Text(); ok && strings.TrimSuffix(full, "/") != "%prefix%/%topic%" {
		t.Log("warn", "found "+device+", whose full topic "+full+" is not %prefix%/%topic%/")
		return nil
	}
	found(t, device, name)
	return nil
}

// present takes tele/TOPIC/LWT, which every firmware has.
func present(t *Twin, topic string, payload []byte) {
	device := strings.TrimSuffix(strings.TrimPrefix(topic, "tele/"), "/LWT")
	if string(payload) == "Online" {
		found(t, device, device)
	}
}

func found(t *Twin, device, name string) {
	if device == "" || len(device) > 64 || device == t.Settings().Topic || strings.ContainsAny(device, "+# /\x00") {
		return
	}
	if name == "" {
		name = device
	}
	settings, err := wire.Append(nil, suggested{device})
	if err == nil {
		err = t.Discover(twin.Discovery{
			Network: "tasmota", Key: "topic", Value: device, Name: name, Driver: "tasmota", Settings: settings,
		})
	}
	if err != nil {
		t.Log("warn", "discover: "+err.Error())
	}
}
