package sim_test

import (
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/library/zigbee2mqtt/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
)

func open(t *testing.T, device string) (*sim.Sim, *peertest.Twin) {
	t.Helper()
	r := peertest.LoadSource(t, "../zigbee2mqtt.js")
	tw, broker := peertest.Broker(t, r, `{"device":"`+device+`"}`, map[string]string{"base": "zigbee2mqtt", "device": device})
	s, err := sim.New(sim.Options{Broker: broker, Period: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	return s, tw
}

// TestDriver runs the driver against the simulated bridge, with a broker between them.
func TestDriver(t *testing.T) {
	s, tw := open(t, "lamp")
	tw.UntilHas("model", `"LED1545G12"`)
	tw.UntilHas("on", "false")
	if err := tw.Set("brightness", "50"); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("brightness", "50")
	tw.UntilHas("on", "true")
	if on, brightness := s.Lamp(); !on || brightness != 127 {
		t.Errorf("the lamp: %v, %d", on, brightness)
	}
}

func TestSensor(t *testing.T) {
	_, tw := open(t, "sensor")
	tw.UntilHas("battery", "97")
	tw.UntilHas("pressure", "1013")
}

func TestBridge(t *testing.T) {
	_, tw := open(t, "bridge")
	tw.UntilHas("devices", "2")
	if found := tw.UntilFound("0x00158d0000000002"); found.Driver != "zigbee2mqtt" || string(found.Settings) != `{"base":"zigbee2mqtt","device":"sensor"}` {
		t.Errorf("found %+v", found)
	}
}
