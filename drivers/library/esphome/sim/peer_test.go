package sim_test

import (
	"net"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/library/esphome/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
)

// The simulated device with npm's client for ESPHome, which was not written here.
func TestAgainstAnIndependentClient(t *testing.T) {
	s := start(t, sim.Options{Period: time.Hour, Password: "secret"})
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ESPHOME_PORT", port)
	t.Setenv("ESPHOME_PASSWORD", "secret")
	_, said := peertest.NPM(t, "esphome.mjs")
	missing := map[string]bool{"device simulated AC:BC:32:89:0E:A9": true, "entity Switch relay": true, "entity Climate heating": true,
		`state relay {"state":true,"deviceId":0}`: true, `state level {"state":12.5,"missingState":false,"deviceId":0}`: true, `state mode {"state":"Boost","missingState":false,"deviceId":0}`: true,
		`state note {"state":"hello","missingState":false,"deviceId":0}`: true}
	for deadline := time.After(peertest.Deadline); len(missing) > 0; {
		select {
		case line, open := <-said:
			if !open {
				t.Fatalf("the client ended without %v", missing)
			}
			t.Log(line)
			delete(missing, line)
		case <-deadline:
			t.Fatalf("the client did not say %v", missing)
		}
	}
	for _, text := range []string{"relay true", "level 12.5", "mode Boost", "blind 0.75 0.00 stop false", "restart", "fan true 0", "heating 0 22"} {
		for deadline := time.Now().Add(peertest.Deadline); !told(s, text); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the client did not tell the device %s; journal %v", text, s.Journal().Entries("esphome"))
			}
		}
	}
}
