package snmp_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/library/snmp/sim"
	"github.com/polluxhq/pollux/drivers/peer"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/scan"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/udp"
)

// freePort is one of UDP that nobody listens at.
func freePort(t *testing.T) int {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// open gives a twin of the device at addr; it hears traps at the port.
func open(t *testing.T, addr, settings string, port int) *peertest.Twin {
	t.Helper()
	r := peertest.LoadFile(t, drivertest.Rust(t, "."))
	tw := peertest.New(t, r, settings)
	options := *r.Manifest().TransportFor("udp")
	options.UDP = &drivers.UDPOptions{WithPeer: true, LocalPort: port}
	c, err := udp.Open(transport.Options{Binding: drivers.Binding{URI: "udp://" + addr, Transport: options}, Sink: tw})
	if err != nil {
		t.Fatal(err)
	}
	tw.Attach(c)
	return tw
}

// snmpd starts Debian's agent and returns its address.
func snmpd(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("/usr/sbin/snmpd")
	if err != nil {
		drivertest.Missing(t, "snmpd is not installed: apt-get install snmpd")
	}
	dir, addr := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	config := `rocommunity secret 127.0.0.1
rwcommunity writes 127.0.0.1
sysLocation Rack 7
sysServices 72
agentaddress udp:` + addr + `
override -rw 1.3.6.1.4.1.8072.9999.1.0 integer 42
override 1.3.6.1.4.1.8072.9999.2.0 octet_str "21.5"
`
	file := filepath.Join(dir, "snmpd.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-f", "-Lf", filepath.Join(dir, "log"), "-C", "-c", file, "-p", filepath.Join(dir, "pid"))
	cmd.Env = append(os.Environ(), "SNMP_PERSISTENT_DIR="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("snmpd says: %s", text)
		}
	})
	return addr
}

const settings = `{"community":"secret","write_community":"writes","poll_s":1,"objects":[
	{"name":"fan","oid":"1.3.6.1.4.1.8072.9999.1.0","writable":true},
	{"name":"inlet","oid":".1.3.6.1.4.1.8072.9999.2.0","unit":"Cel"},
	{"name":"missing","oid":"1.3.6.1.4.1.8072.9999.3.0"}]}`

// The driver against Debian's snmpd, and traps of its snmptrap.
func TestAgainstNetSNMP(t *testing.T) {
	port := freePort(t)
	tw := open(t, snmpd(t), settings, port)
	tw.UntilHas("reachable", "true")
	tw.UntilHas("location", `"Rack 7"`)
	tw.UntilHas("fan", "42")
	tw.UntilHas("inlet", "21.5")
	tw.UntilHas("missing", "null")
	if err := tw.Set("fan", "55"); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("fan", "55")
	var refusal *drivers.DriverError
	if err := tw.Set("location", `"Rack 8"`); !errors.As(err, &refusal) || refusal.Code == 0 { // snmpd.conf says where it is
		t.Errorf("an object that the agent's file fixes: %v", err)
	}
	out, err := tw.Invoke("get", `{"oids":["1.3.6.1.4.1.8072.9999.1.0","1.3.6.1.2.1.1.6.0"]}`)
	if err != nil || !strings.Contains(out, `"value":55`) || !strings.Contains(out, `"value":"Rack 7"`) {
		t.Errorf("get: %s, %v", out, err)
	}
	out, err = tw.Invoke("walk", `{"oid":"1.3.6.1.2.1.1","max":60}`)
	if err != nil || strings.Count(out, `"oid"`) < 25 || !strings.Contains(out, "Rack 7") {
		t.Errorf("walk: %d objects, %v", strings.Count(out, `"oid"`), err)
	}
	if out, err = tw.Invoke("walk", `{"oid":"1.3.6.1.2.1.1.6"}`); err != nil || strings.Count(out, `"oid"`) != 1 {
		t.Errorf("walk of one: %s, %v", out, err)
	}
	testTraps(t, tw, port)
}

func testTraps(t *testing.T, tw *peertest.Twin, port int) {
	for _, program := range []string{"snmptrap", "snmpinform"} {
		if _, err := exec.LookPath(program); err != nil {
			drivertest.Missing(t, "snmptrap is not installed: apt-get install snmp")
		}
		before := len(tw.Events())
		// An inform is answered, or snmpinform fails.
		out, err := exec.Command(program, "-v2c", "-c", "secret", fmt.Sprintf("127.0.0.1:%d", port), "4711", "1.3.6.1.4.1.8072.9999.0.1",
			"1.3.6.1.4.1.8072.9999.2.0", "s", "35.5").CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", program, err, out)
		}
		deadline := time.Now().Add(30 * time.Second)
		for len(tw.Events()) == before && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
		}
		events := tw.Events()[before:]
		if len(events) != 1 || events[0].Name != "trap" || string(events[0].Data) !=
			`{"oid":"1.3.6.1.4.1.8072.9999.0.1","uptime_s":47.11,"values":[{"oid":"1.3.6.1.4.1.8072.9999.2.0","value":"35.5"}]}` {
			t.Errorf("%s: %s", program, events)
		}
	}
}

func TestADeviceThatIsNotThere(t *testing.T) {
	tw := open(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), `{"poll_s":1}`, 0)
	tw.UntilHas("reachable", "false")
}

func TestAgainstTheSimulator(t *testing.T) {
	s, err := sim.New(sim.Options{Listen: "127.0.0.1:0", Faults: peer.Faults{Silence: 0.05, Garbage: 0.03}, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	port := freePort(t)
	tw := open(t, s.Addr(), fmt.Sprintf(`{"poll_s":1,"objects":[{"name":"battery","oid":"%s","unit":"%%"},
		{"name":"outlet","oid":"%s","format":"boolean","writable":true},{"name":"none","oid":"1.3.6.1.2.1.33.9.0"}]}`, sim.Battery, sim.Outlet), port)
	tw.UntilHas("battery", "100")
	tw.UntilHas("outlet", "true")
	tw.UntilHas("location", `"Rack 7"`)
	s.Set(sim.Battery, 41)
	tw.UntilHas("battery", "41")
	for range 5 { // a datagram may be lost
		if err = tw.Set("outlet", "false"); err == nil {
			break
		}
	}
	if err != nil || s.Get(sim.Outlet) != 2 {
		t.Errorf("outlet: %v, %d", err, s.Get(sim.Outlet))
	}
	if err := s.Trap(fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); len(tw.Events()) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the trap was not heard")
		}
	}
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
	if err != nil || len(found.Found) != 1 || found.Found[0].Driver != "snmp" || found.Found[0].Name != "ups" {
		t.Errorf("%+v, %v", found, err)
	}
}
