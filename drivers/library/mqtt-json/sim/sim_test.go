package sim_test

import (
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/library/mqtt-json/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
)

// TestDriver runs the driver against the simulated pump, with a broker between them.
func TestDriver(t *testing.T) {
	r := peertest.LoadSource(t, "../mqtt-json.js")
	tw, broker := peertest.Broker(t, r, `{"topic":"plant/pump1","read":[{"topic":"cmd","payload":"{\"get\":true}"}],"events":{"fault":"errors/+"},"values":{
		"running":{"topic":"state","path":"run","type":"boolean","on":1,"off":0,"write":{"topic":"cmd","payload":{"run":"{value}"}}},
		"temperature":{"topic":"state","path":"sensors[0].t","scale":0.1,"unit":"Cel"},
		"speed":{"topic":"speed","type":"integer","write":{"topic":"speed/set","payload":"rpm={value}"}}}}`, map[string]string{"topic": "plant/pump1"})
	s, err := sim.New(sim.Options{Broker: broker, Period: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	tw.UntilHas("running", "false")
	tw.UntilHas("temperature", "21.5")
	tw.UntilHas("speed", "1450")
	if err := tw.Set("running", "true"); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("running", "true")
	if err := tw.Set("speed", "900"); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("speed", "900")
	if runs, speed := s.State(); !runs || speed != 900 {
		t.Errorf("the pump: runs %v, %d rpm", runs, speed)
	}
	if err := tw.Set("speed", "9000"); err != nil {
		t.Fatal(err)
	}
	tw.UntilEvent("message", `{"name":"fault","payload":"too hot"}`)
	tw.UntilHas("speed", "3000")
}

func TestOptions(t *testing.T) {
	if _, err := sim.New(sim.Options{Topic: "plant/+"}); err == nil {
		t.Error("a topic with a wildcard was taken")
	}
}
