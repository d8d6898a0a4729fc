package sim_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/library/esphome/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/scan"
)

// testScan looks for simulated devices: of one that is asked itself, by the group where the machine has multicast on
// loopback, and for those that cannot be used.
func testScan(t *testing.T, r drivers.Runner) {
	s, coded := start(t, sim.Options{MDNS: "127.0.0.1:0"}), start(t, sim.Options{MDNS: "127.0.0.1:0", Encrypted: true})
	how := *r.Manifest().Scan
	how.LocalPort = 0
	found := peertest.Scan(t, r, how, fmt.Sprintf(`{"address":%q}`, s.MDNSAddr()), peertest.Finds)
	if len(found.Found) != 1 || len(found.Notes) != 0 {
		t.Fatalf("got %+v", found)
	}
	d := found.Found[0]
	if d.Network != "esphome" || d.Key != "mac" || d.Value != "acbc32890ea9" || d.Driver != "esphome" || d.URI != "tcp://"+s.Addr() || d.Name != "Simulated (esp32dev)" {
		t.Errorf("found %+v", d)
	}
	found = peertest.Scan(t, r, how, fmt.Sprintf(`{"address":%q}`, coded.MDNSAddr()), func(f *scan.Result) bool { return f.Answers > 0 })
	if len(found.Found) != 0 || len(found.Notes) != 1 || !strings.Contains(found.Notes[0], "wants encryption") {
		t.Errorf("of a device that encrypts: %+v", found)
	}
	peertest.NeedMulticast(t)
	grouped := start(t, sim.Options{MDNS: "127.0.0.1:5353"})
	how.LocalPort = how.Port
	isIt := func(f *scan.Result) bool {
		for _, d := range f.Found {
			if d.URI == "tcp://"+grouped.Addr() {
				return true
			}
		}
		return false
	}
	if found := peertest.Scan(t, r, how, `{}`, isIt); !isIt(found) {
		t.Errorf("nobody answered to the group: %+v", found)
	}
	how.LocalPort = 0 // as where the port is another's: the answer comes back to whoever asked
	if found := peertest.Scan(t, r, how, `{}`, isIt); !isIt(found) {
		t.Errorf("nobody answered one who does not hear the group: %+v", found)
	}
}

// testScanIndependent looks for what npm's bonjour-service announces, which was not written here.
func testScanIndependent(t *testing.T, r drivers.Runner) {
	peertest.NeedMulticast(t)
	port := peertest.FreeUDP(t)
	services, err := json.Marshal([]map[string]any{
		{"name": "kitchen-light", "type": "esphomelib", "port": 6053, "txt": map[string]string{"mac": "a1b2c3d4e5f6", "board": "nodemcu", "friendly_name": "Kitchen light"}},
		{"name": "printer", "type": "ipp", "port": 631},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("MDNS_PORT", fmt.Sprint(port))
	t.Setenv("MDNS_SERVICES", string(services))
	peertest.NPM(t, "mdns.mjs")
	how := *r.Manifest().Scan
	how.Port, how.LocalPort = port, port
	found := peertest.Scan(t, r, how, `{}`, peertest.Finds)
	if len(found.Found) != 1 {
		t.Fatalf("got %+v", found)
	}
	if d := found.Found[0]; d.Value != "a1b2c3d4e5f6" || d.Name != "Kitchen light (nodemcu)" || !strings.HasSuffix(d.URI, ":6053") {
		t.Errorf("found %+v", d)
	}
}
