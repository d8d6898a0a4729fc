package modbus_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/library/modbus/sim"
	"github.com/polluxhq/pollux/drivers/peer"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/scan"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
)

const registers = `{"poll_s":1,"registers":[
	{"name":"supply","address":0,"scale":0.1,"unit":"Cel","writable":true},
	{"name":"return","address":1,"format":"i16","scale":0.1},
	{"name":"flow","address":10,"format":"f32","writable":true},
	{"name":"energy","address":20,"format":"u32","unit":"kWh"},
	{"name":"alarm","address":30,"format":"bit","bit":3},
	{"name":"serial","kind":"input","address":7},
	{"name":"pump","kind":"coil","address":0,"writable":true},
	{"name":"valve","kind":"coil","address":1},
	{"name":"door","kind":"discrete","address":3},
	{"name":"missing","address":2000}]}`

func open(t *testing.T, addr, settings string) *peertest.Twin {
	t.Helper()
	r := peertest.LoadFile(t, drivertest.Rust(t, "."))
	tw := peertest.New(t, r, settings)
	c, err := tcp.Open(transport.Options{Binding: drivers.Binding{URI: "tcp://" + addr, Transport: *r.Manifest().TransportFor("tcp")}, Sink: tw,
		Backoff: transport.Backoff{Min: 20 * time.Millisecond, Max: 100 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	tw.Attach(c)
	return tw
}

// The driver against npm's modbus-serial, which was not written here.
func TestAgainstAnIndependentServer(t *testing.T) {
	port, said := peertest.NPM(t, "modbus.mjs")
	tw := open(t, "127.0.0.1:"+port, registers)
	for property, want := range map[string]string{"supply": "21.5", "return": "-2", "flow": "12.5", "energy": "100000", "alarm": "true",
		"serial": "1007", "pump": "true", "valve": "false", "door": "true", "missing": "null"} {
		tw.UntilHas(property, want)
	}
	for _, c := range []struct{ property, value, says string }{
		{"supply", "23.4", "register 0 234"}, {"pump", "false", "coil 0 false"}, {"flow", "-1.5", "register 10 49088"}, {"flow", "-1.5", "register 11 0"},
	} {
		if err := tw.Set(c.property, c.value); err != nil {
			t.Fatal(c.property, err)
		}
		tw.UntilHas(c.property, c.value)
		for line := range said {
			if line == c.says {
				break
			}
		}
	}
	for property, value := range map[string]string{"supply": "7000", "flow": `"x"`, "energy": "1", "nothing": "1"} {
		if err := tw.Set(property, value); err == nil {
			t.Errorf("%s took %s", property, value)
		}
	}
	if out, err := tw.Invoke("read", `{"kind":"input","address":3,"count":2}`); err != nil || out != "[1003,1004]" {
		t.Errorf("read: %s, %v", out, err)
	}
	var refusal *drivers.DriverError
	if _, err := tw.Invoke("read", `{"address":1500}`); !errors.As(err, &refusal) || refusal.Code != 2 || !strings.Contains(refusal.Message, "no such address") {
		t.Errorf("an address that is not there: %v", err)
	}
	if _, err := tw.Invoke("write", `{"address":40,"values":[1,2]}`); err != nil {
		t.Error(err)
	}
	if out, err := tw.Invoke("read", `{"address":40,"count":2}`); err != nil || out != "[1,2]" {
		t.Errorf("read what was written: %s, %v", out, err)
	}
}

func TestAgainstTheSimulator(t *testing.T) {
	s, err := sim.New(sim.Options{Listen: "127.0.0.1:0", Faults: peer.Faults{Silence: 0.05, Drop: 0.02}, Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	tw := open(t, s.Addr(), `{"poll_s":1,"registers":[{"name":"supply","address":0,"scale":0.1},{"name":"flow","address":10,"format":"f32"},
		{"name":"setpoint","address":40,"scale":0.1,"writable":true},{"name":"pump","kind":"coil","address":0,"writable":true}]}`)
	tw.UntilHas("supply", "41.5")
	tw.UntilHas("flow", "18.5")
	tw.UntilHas("pump", "true")
	set := func(property, value string) {
		var err error
		for range 5 { // one answer in ten does not come
			if err = tw.Set(property, value); err == nil {
				return
			}
		}
		t.Fatalf("%s: %v", property, err)
	}
	set("setpoint", "45.5")
	set("pump", "false")
	if s.Register(40) != 455 || s.Coil(0) {
		t.Errorf("the device has %d, %t", s.Register(40), s.Coil(0))
	}
	s.SetRegister(0, 500)
	tw.UntilHas("supply", "50")
}

func TestScanFindsTheSimulator(t *testing.T) {
	s, err := sim.New(sim.Options{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	r := peertest.LoadFile(t, drivertest.Rust(t, "."))
	at := netip.MustParseAddrPort(s.Addr())
	how := *r.Manifest().Scan
	how.Port, how.Group = int(at.Port()), ""
	found, err := scan.Run(t.Context(), scan.Options{Runner: r, Scan: &how, Network: netip.PrefixFrom(at.Addr(), 32), Timeout: 2 * time.Second, Tenant: "default"})
	if err != nil || len(found.Found) != 1 || found.Found[0].Driver != "modbus" || !strings.HasPrefix(found.Found[0].Name, "Modbus unit 1 at 127.0.0.1") {
		t.Errorf("%+v, %v", found, err)
	}
}
