package main_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/conformance"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/library/bacnet/sim"
	"github.com/polluxhq/pollux/drivers/peer"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/scan"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/udp"
)

// These tests run the compiled driver in the real sandbox against devices on real sockets.

func open(t *testing.T, r drivers.Runner, addr, settings string) *peertest.Twin {
	t.Helper()
	tw := peertest.New(t, r, settings)
	c, err := udp.Open(transport.Options{Binding: drivers.Binding{URI: "udp://" + addr, Transport: *r.Manifest().TransportFor("udp")}, Sink: tw})
	if err != nil {
		t.Fatal(err)
	}
	tw.Attach(c)
	return tw
}

// find scans for devices. The test's devices are not at BACnet's port, so that tests may run beside each other.
func find(t *testing.T, r drivers.Runner, options string) *scan.Result {
	t.Helper()
	how := *r.Manifest().Scan
	how.LocalPort = 0
	found, err := scan.Run(t.Context(), scan.Options{Runner: r, Scan: &how, Network: netip.MustParsePrefix("127.0.0.0/24"), Timeout: 700 * time.Millisecond,
		Input: []byte(options), Tenant: "default", Settings: []byte(`{"device":4194303,"network":0,"mac":"","points":[]}`)})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// untilRemembers waits for something in the driver's memory.
func untilRemembers(t *testing.T, tw *peertest.Twin, part string) {
	t.Helper()
	for deadline := time.Now().Add(peertest.Deadline); !strings.Contains(tw.Memory(), part); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never remembers %s; but %s", part, tw.Memory())
		}
	}
}

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

// Whatever a device or a caller sends does not crash it.
func TestConforms(t *testing.T) {
	box, err := drivers.NewSandbox(drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close() })
	r, err := conformance.Run(t.Context(), box, drivertest.Build(t, "."), conformance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Probes {
		if p.Outcome == conformance.Failed {
			t.Errorf("%s: %s", p.Name, p.Detail)
		}
	}
}

func TestInTheSandbox(t *testing.T) {
	r := peertest.Load(t, ".") // takes seconds: once for all
	t.Run("independent stack", func(t *testing.T) { testIndependentStack(t, r) })
	t.Run("simulator", func(t *testing.T) { testSimulator(t, r) })
	t.Run("lost datagrams", func(t *testing.T) { testLostDatagrams(t, r) })
}

// npm's node-bacnet was not written here.
func testIndependentStack(t *testing.T, r drivers.Runner) {
	port, said := peertest.NPM(t, "bacnet.mjs")
	until := func(want string) {
		t.Helper()
		limit := time.After(peertest.Deadline)
		for {
			select {
			case line := <-said:
				if line == want {
					return
				}
			case <-limit:
				t.Fatalf("the device never said %q", want)
			}
		}
	}
	addr := "127.0.0.1:" + port
	tw := open(t, r, addr, `{"poll_s":1,"points":[
		{"name":"outside","object":"analog-input","instance":2,"cov":"confirmed","unit":"Cel"},
		{"name":"setpoint","object":"analog-value","instance":1,"writable":true,"unit":"Cel"},
		{"name":"fan","object":"binary-output","instance":1,"cov":"unconfirmed","writable":true},
		{"name":"mode","object":"multi-state-value","instance":1,"writable":true},
		{"name":"supply","object":"analog-input","instance":1,"cov":"confirmed"},
		{"name":"where","object":"analog-input","instance":1,"property":"description"},
		{"name":"missing","object":"analog-input","instance":99}]}`)
	until("subscribed 0:2 true 600")
	until("told 0:1 ok") // what the driver acknowledged
	for property, want := range map[string]string{"device_id": "1234", "device_name": `"Lüftung"`, "vendor_name": `"npm"`, "model_name": `"node-bacnet"`,
		"system_status": `"operational"`, "outside": "-40.25", "setpoint": "20", "fan": "true", "mode": "3", "where": `"supply air"`, "missing": "null"} {
		tw.UntilHas(property, want)
	}
	tw.UntilHas("supply", "22.25") // it changes by itself, and tells
	tw.UntilHas("supply", "21.5")
	for _, c := range []struct{ property, value, says string }{{"setpoint", "23.5", "2:1:85 23.5 at 8"}, {"fan", "false", "4:1:85 0 at 8"}, {"mode", "1", "19:1:85 1 at 8"}} {
		if err := tw.Set(c.property, c.value); err != nil {
			t.Fatal(c.property, err)
		}
		until(c.says)
		tw.UntilHas(c.property, c.value)
	}
	if _, err := tw.Invoke("write", `{"object":"analog-value","instance":1,"value":30,"priority":3}`); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("setpoint", "30")
	if _, err := tw.Invoke("relinquish", `{"name":"setpoint","priority":3}`); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("setpoint", "23.5")
	if out, err := tw.Invoke("read", `{"object":"device","instance":1234,"property":"object-list"}`); err != nil || out != `["analog-input:1","device:1234"]` {
		t.Errorf("object-list: %s, %v", out, err)
	}
	var refusal *drivers.DriverError
	if _, err := tw.Invoke("write", `{"object":"analog-input","instance":1,"value":1}`); !errors.As(err, &refusal) || !strings.Contains(refusal.Message, "writing is denied") {
		t.Errorf("an input was written: %v", err)
	}
	if found := find(t, r, `{"address":"`+addr+`"}`).Found; len(found) != 1 || found[0].Value != "1234" || found[0].URI != "udp://"+addr {
		t.Errorf("found %+v", found)
	}
	if found := find(t, r, `{"address":"`+addr+`","low":1,"high":1000}`).Found; len(found) != 0 {
		t.Errorf("found %+v", found)
	}
}

const points = `{"poll_s":1,"cov_s":60,"points":[
	{"name":"supply","object":"analog-input","instance":1,"cov":"confirmed"},
	{"name":"return","object":"analog-input","instance":2},
	{"name":"setpoint","object":"analog-value","instance":1,"writable":true,"cov":"unconfirmed"},
	{"name":"fan","object":"binary-output","instance":1,"writable":true},
	{"name":"mode","object":"multi-state-value","instance":1,"writable":true}]}`

func testSimulator(t *testing.T, r drivers.Runner) {
	s := start(t, sim.Options{Device: 77})
	tw := open(t, r, s.Addr(), strings.Replace(points, `{`, `{"timeout_ms":200,`, 1))
	for property, want := range map[string]string{"device_id": "77", "vendor_name": `"Castor"`, "supply": "18.5", "return": "22", "setpoint": "21", "fan": "false", "mode": "1"} {
		tw.UntilHas(property, want)
	}
	s.Measure(sim.Supply, -1.25)
	tw.UntilHas("supply", "-1.25")
	s.Measure(sim.Return, 19)
	tw.UntilHas("return", "19")
	for property, value := range map[string]string{"setpoint": "19.5", "fan": "true", "mode": "3"} {
		if err := tw.Set(property, value); err != nil {
			t.Fatal(property, err)
		}
		tw.UntilHas(property, value)
	}
	if s.Present(sim.Setpoint) != "44419c0000" || s.Present(sim.Fan) != "9101" || s.Present(sim.Mode) != "2103" {
		t.Errorf("the device has %s %s %s", s.Present(sim.Setpoint), s.Present(sim.Fan), s.Present(sim.Mode))
	}
	if err := tw.Set("mode", "4"); err == nil || !strings.Contains(err.Error(), "out of range") {
		t.Errorf("mode 4: %v", err)
	}
	if out, err := tw.Invoke("read", `{"object":"analog-value","instance":1,"property":"priority-array"}`); err != nil || strings.Count(out, "null") != 15 {
		t.Errorf("priority array %s, %v", out, err)
	}
	if out, err := tw.Invoke("read", `{"object":"device","instance":77,"property":"object-list","index":4}`); err != nil || out != `"analog-value:1"` {
		t.Errorf("object list: %s, %v", out, err)
	}
	if _, err := tw.Invoke("relinquish", `{"name":"setpoint"}`); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("setpoint", "21")
	// It restarts: its subscriptions are gone, and made anew. Only a notification can bring the new value.
	s.SetFaults(peer.Faults{Silence: 1})
	untilRemembers(t, tw, `"silent":true`)
	s.Forget()
	s.SetFaults(peer.Faults{})
	untilRemembers(t, tw, `"until":[1`)
	s.Measure(sim.Supply, 30)
	tw.UntilHas("supply", "30")
	found := find(t, r, `{"address":"`+s.Addr()+`"}`).Found
	if !slices.ContainsFunc(found, func(d drivers.Discovery) bool {
		return d.Value == "77" && d.Driver == "bacnet" && string(d.Settings) == `{"device":77}`
	}) {
		t.Errorf("found %+v", found)
	}
}

func testLostDatagrams(t *testing.T, r drivers.Runner) {
	s := start(t, sim.Options{Faults: peer.Faults{Silence: 0.3}, Seed: 3})
	tw := open(t, r, s.Addr(), strings.Replace(points, `{`, `{"timeout_ms":200,`, 1))
	tw.UntilHas("return", "22")
	tw.UntilHas("supply", "18.5")
	tw.UntilHas("model_name", `"AHU-S"`)
	var err error
	for range 5 {
		if err = tw.Set("setpoint", "25"); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("setpoint", "25")
}
