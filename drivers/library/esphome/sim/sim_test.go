package sim_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/conformance"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/library/esphome/sim"
	"github.com/polluxhq/pollux/drivers/peer"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
)

func start(t *testing.T, o sim.Options) *sim.Sim {
	t.Helper()
	o.Listen = "127.0.0.1:0"
	s, err := sim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	return s
}

func open(t *testing.T, r drivers.Runner, s *sim.Sim, settings string) *peertest.Twin {
	t.Helper()
	tw := peertest.New(t, r, settings)
	c, err := tcp.Open(transport.Options{Binding: drivers.Binding{URI: "tcp://" + s.Addr(), Transport: *r.Manifest().TransportFor("tcp")}, Sink: tw,
		Backoff: transport.Backoff{Min: 20 * time.Millisecond, Max: 100 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	tw.Attach(c)
	return tw
}

func told(s *sim.Sim, text string) bool {
	return slices.ContainsFunc(s.Journal().Entries("esphome"), func(e peer.Entry) bool { return e.Event == "told" && e.Text == text })
}

// TestDriver runs the driver in the sandbox against simulated devices over TCP.
func TestDriver(t *testing.T) {
	r := peertest.Load(t, "..")
	t.Run("all entities", func(t *testing.T) { testEntities(t, r) })
	t.Run("wrong password", func(t *testing.T) {
		open(t, r, start(t, sim.Options{Password: "right"}), `{"password":"wrong"}`).UntilHas("device_problem", `"the device refuses the password"`)
	})
	t.Run("encrypted", func(t *testing.T) {
		tw := open(t, r, start(t, sim.Options{Encrypted: true}), `{}`)
		tw.UntilHas("device_problem", `"the device encrypts its API: remove the key below \"api: encryption:\" from its ESPHome configuration and install it again"`)
	})
	t.Run("scan", func(t *testing.T) { testScan(t, r) })
	t.Run("scan an independent responder", func(t *testing.T) { testScanIndependent(t, r) })
	t.Run("faults", func(t *testing.T) {
		s := start(t, sim.Options{Period: 20 * time.Millisecond, Seed: 5, Faults: peer.Faults{Garbage: 0.05, Drop: 0.05}})
		tw := open(t, r, s, `{}`)
		for try := 0; try < 20 && !told(s, "relay true"); try++ { // each may fail, none may do harm
			tw.UntilHas("device_problem", "null")
			_ = tw.Set("relay", "true")
		}
		tw.UntilHas("relay", "true")
	})
}

func testEntities(t *testing.T, r drivers.Runner) {
	s := start(t, sim.Options{Period: time.Hour, Password: "secret"})
	tw := open(t, r, s, `{"password":"secret"}`)
	for property, want := range map[string]string{"device_name": `"simulated"`, "door": "true", "temperature": "21.5", "relay": "false", "lamp": "false",
		"lamp_brightness": "100", "blind": "0", "fan_speed": "0", "level": "42", "mode": `"Eco"`, "note": `"hello"`, "heating_mode": `"off"`,
		"heating_setpoint": "20.5"} {
		tw.UntilHas(property, want)
	}
	if schema := string(tw.Model().Property("mode").Schema); !strings.Contains(schema, `["Eco","Boost"]`) {
		t.Errorf("mode is described as %s", schema)
	}
	for _, c := range []struct{ property, value, says string }{
		{"relay", "true", "relay true"}, {"lamp", "true", "lamp true 1.00"}, {"lamp_brightness", "40", "lamp true 0.40"},
		{"lamp_color", `"#804020"`, ""}, {"lamp_color_temperature", "2700", ""}, {"lamp_effect", `"Rainbow"`, ""}, {"blind", "75", "blind 0.75 0.00 stop false"},
		{"blind_tilt", "50", "blind 0.75 0.50 stop false"}, {"fan", "true", "fan true 0"}, {"fan_speed", "2", "fan true 2"}, {"fan_oscillating", "true", ""},
		{"fan_direction", `"reverse"`, ""}, {"level", "12.5", "level 12.5"}, {"mode", `"Boost"`, "mode Boost"}, {"heating_mode", `"heat"`, "heating 3 20.5"},
		{"heating_setpoint", "22.3", "heating 3 22.3"},
	} {
		if err := tw.Set(c.property, c.value); err != nil {
			t.Fatal(c.property, err)
		}
		tw.UntilHas(c.property, c.value)
		if c.says != "" && !told(s, c.says) {
			t.Errorf("%s: the device was not told %s", c.property, c.says)
		}
	}
	for _, c := range []struct{ action, entity, says string }{{"press", "restart", "restart"}, {"stop", "blind", "blind 0.75 0.50 stop true"}} {
		if _, err := tw.Invoke(c.action, `{"entity":"`+c.entity+`"}`); err != nil || !told(s, c.says) {
			t.Errorf("%s: %v", c.action, err)
		}
	}
	if _, err := tw.Invoke("press", `{"entity":"relay"}`); err == nil || !strings.Contains(err.Error(), "it has restart") {
		t.Errorf("pressed a switch: %v", err)
	}
	s.Measure(float32(math.NaN()))
	tw.UntilHas("temperature", "null")
	s.Measure(21.3)
	tw.UntilHas("temperature", "21.3")
}

func TestConforms(t *testing.T) {
	box, err := drivers.NewSandbox(drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	r, err := conformance.Run(t.Context(), box, drivertest.Build(t, ".."), conformance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Probes {
		if p.Outcome == conformance.Failed {
			t.Errorf("%s: %s", p.Name, p.Detail)
		}
	}
}
