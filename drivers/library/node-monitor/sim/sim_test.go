package sim_test

import (
	"encoding/json"
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/httpclient"
	"github.com/polluxhq/pollux/drivers/library/node-monitor/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/transport"
)

// TestDriver runs the driver against the simulated node over HTTP; test/settings_test.go has it look at a real one.
func TestDriver(t *testing.T) {
	r := peertest.LoadSource(t, "../node-monitor.js")
	s, err := sim.New(sim.Options{Listen: "127.0.0.1:0", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	open := func(settings string) *peertest.Twin {
		t.Helper()
		c, err := httpclient.New(transport.Options{Binding: drivers.Binding{URI: "http://" + s.Addr(), Transport: *r.Manifest().TransportFor("http")}})
		if err != nil {
			t.Fatal(err)
		}
		tw := peertest.New(t, r, settings)
		tw.HTTP(c)
		return tw
	}
	tw := open(`{"poll_s":1,"token":"secret","alarms":{"processor":90,"dropped":1}}`)
	tw.UntilHas("healthy", "true")
	tw.UntilHas("mqtt_clients", "42")
	tw.UntilHas("memory", "200")
	above := func(name string, least float64) {
		t.Helper()
		tw.Until(name, func(p map[string]json.RawMessage, _ bool) bool {
			var v float64
			return json.Unmarshal(p[name], &v) == nil && v > least
		})
	}
	above("processor", 20)
	above("commands", 20)
	s.Load(1.5, 10_000)
	tw.UntilEvent("alarm", `"processor"`)
	tw.UntilEvent("alarm", `"dropped"`)
	s.Load(0.2, 0)
	tw.UntilEvent("calm", `"processor"`)
	open(`{"poll_s":1,"token":"wrong"}`).UntilHas("healthy", "false")
}
