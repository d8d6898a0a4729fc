package sim_test

import (
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/httpclient"
	"github.com/polluxhq/pollux/drivers/library/http-json/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/transport"
)

// TestDriver runs the driver against the simulated meter over HTTP.
func TestDriver(t *testing.T) {
	r := peertest.LoadSource(t, "../http-json.js")
	s, err := sim.New(sim.Options{Listen: "127.0.0.1:0", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	c, err := httpclient.New(transport.Options{Binding: drivers.Binding{URI: "http://" + s.Addr(), Transport: *r.Manifest().TransportFor("http")}})
	if err != nil {
		t.Fatal(err)
	}
	tw := peertest.New(t, r, `{"poll_s":1,"authorization":"Bearer secret","requests":[{"path":"/api/status"}],"values":{
		"power":{"path":"meter.watts","unit":"W"},"voltage":{"path":"meter.volts"},
		"on":{"path":"relay","type":"boolean","on":"ON","off":"OFF","write":{"path":"/api/relay","body":{"state":"{value}"}}}}}`)
	tw.HTTP(c)
	tw.UntilHas("voltage", "230.5")
	tw.UntilHas("on", "false")
	if err := tw.Set("on", "true"); err != nil || !s.Relay() {
		t.Fatalf("on: %v, %v", err, s.Relay())
	}
	tw.UntilHas("on", "true")
	tw.UntilHas("answers", "true")
}
