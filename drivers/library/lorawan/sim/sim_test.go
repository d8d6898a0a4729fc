package sim_test

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/library/lorawan/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
)

// open runs a simulated server that brings its uplinks to a twin.
func open(t *testing.T, settings string) *peertest.Twin {
	t.Helper()
	tw := peertest.New(t, peertest.LoadSource(t, "../lorawan.js"), settings)
	door := httptest.NewServer(tw)
	t.Cleanup(door.Close)
	s, err := sim.New(sim.Options{URL: door.URL, Period: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	return tw
}

// TestDriver runs the driver against the simulated network server: what its decoder reads is what was measured.
func TestDriver(t *testing.T) {
	tw := open(t, `{"dev_eui":"A84041000181C061","decoder":"dragino-lht65"}`)
	tw.UntilHas("battery_voltage", "3.05")
	tw.UntilHas("frame", "3")
	tw.Until("a temperature around 21", func(p map[string]json.RawMessage, _ bool) bool {
		var celsius float64
		return json.Unmarshal(p["temperature"], &celsius) == nil && celsius > 20.9 && celsius < 21.1
	})
}

func TestServer(t *testing.T) {
	tw := open(t, `{}`)
	if found := tw.UntilFound("a84041000181c061"); string(found.Settings) != `{"dev_eui":"a84041000181c061"}` {
		t.Errorf("found %+v", found)
	}
}
