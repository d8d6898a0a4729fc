package sim_test

import (
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/library/shelly/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
)

// TestDriver runs the driver against the simulated device, with a broker between them.
func TestDriver(t *testing.T) {
	r := peertest.LoadSource(t, "../shelly.js")
	const topic = "shellyplus1pm-1"
	tw, broker := peertest.Broker(t, r, `{"topic":"`+topic+`"}`, map[string]string{"topic": topic})
	s, err := sim.New(sim.Options{Broker: broker, Topic: topic, Period: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	tw.UntilHas("model", `"SNSW-001P16EU"`)
	tw.UntilHas("on", "false")
	if err := tw.Set("on", "true"); err != nil || !s.On() {
		t.Fatalf("on: %v, %v", err, s.On())
	}
	tw.UntilHas("on", "true")
	tw.UntilHas("active_power", "61.5")
	s.Press()
	tw.UntilHas("on", "false")
	if _, err := tw.Invoke("switch", `{"relay":4,"on":true}`); err == nil {
		t.Error("switched a relay that there is not")
	}
	if out, err := tw.Invoke("rpc", `{"method":"Switch.Toggle","params":{"id":0}}`); err != nil || out != `{"was_on":false}` {
		t.Errorf("rpc: %s, %v", out, err)
	}
}
