package test

import (
	"net"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/drivertest"
	knx "github.com/polluxhq/pollux/drivers/library/knx/sim"
	snmp "github.com/polluxhq/pollux/drivers/library/snmp/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/test/harness"
)

// What a scan by a driver in Rust finds is claimed as the inbox shows it, and is a twin that speaks with its device; a second
// scan knows it. The Modbus server is npm's modbus-serial, the others are simulated.
func TestScanClaimTwin(t *testing.T) {
	t.Parallel()
	drivertest.NeedRust(t)
	n := harness.Start(t, harness.Options{})
	gateway, err := knx.New(knx.Options{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, gateway.Run)
	agent, err := snmp.New(snmp.Options{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, agent.Run)
	server, _ := peertest.NPM(t, "modbus.mjs")
	for _, c := range []struct{ driver, at, uri, alias, model, alive string }{
		{"modbus", "127.0.0.1:" + server, "tcp://", "#1", "Modbus TCP", `"connection":"CONNECTION_CONNECTED"`},
		{"snmp", agent.Addr(), "udp://", "", "SNMP v2c", `"Rack 7"`},
		{"knx", gateway.Addr(), "udp://", "", "KNX/IP", `"1.1.10"`},
	} {
		_, port, err := net.SplitHostPort(c.at)
		if err != nil {
			t.Fatal(err)
		}
		n.Must("driver", "add", c.driver)
		scan := func(says string) {
			t.Helper()
			var out string
			until(t, c.driver+": the scan says "+says, func() bool { // a datagram may be lost
				out = n.Must("driver", "scan", c.driver, "--network", "127.0.0.1", "--port", port, "--timeout", "300ms")
				return strings.Contains(out, says)
			})
			if !strings.Contains(out, c.model) || !strings.Contains(out, "1 found") {
				t.Errorf("%s: the scan says %s", c.driver, out)
			}
		}
		scan(c.uri + c.at)
		n.Must("inbox", "claim", c.driver+"/address/"+c.uri+c.at+c.alias, c.driver)
		lives := func(name string) {
			t.Helper()
			until(t, c.driver+" speaks with its device", func() bool {
				out := strings.ReplaceAll(n.Must("twin", "get", name, "-o", "json"), " ", "")
				return strings.Contains(out, `"uri":"`+c.uri+c.at+`"`) && strings.Contains(out, strings.ReplaceAll(c.alive, " ", ""))
			})
		}
		lives(c.driver)
		scan("is the twin default/" + c.driver + " already")

		// One that was made by hand, without the alias, is known by its address.
		n.Must("twin", "rm", c.driver)
		n.Must("twin", "create", c.driver+"-2", "--driver", c.driver, "--uri", c.uri+c.at)
		scan("is the twin default/" + c.driver + "-2 already")
		if out := n.Must("inbox", "list"); strings.Contains(out, c.driver) {
			t.Errorf("%s is in the inbox, though it has a twin: %s", c.driver, out)
		}
	}
	// Another unit behind the same address is another device. This one answers for unit 1 alone.
	_, port, _ := net.SplitHostPort("127.0.0.1:" + server)
	n.Must("twin", "rm", "modbus-2")
	n.Must("twin", "create", "modbus-3", "--driver", "modbus", "--uri", "tcp://127.0.0.1:"+port, "--setting", "unit=2")
	until(t, "the scan finds unit 1", func() bool {
		out := n.Must("driver", "scan", "modbus", "--network", "127.0.0.1", "--port", port, "--timeout", "500ms", "--options", `{"units": [1, 2]}`)
		return strings.Contains(out, "1 found; 2 sent, 1 answers") && !strings.Contains(out, "already")
	})
	if out := n.Must("inbox", "list"); !strings.Contains(out, "modbus/address/tcp://127.0.0.1:"+port+"#1") {
		t.Errorf("the inbox has %s", out)
	}
}
