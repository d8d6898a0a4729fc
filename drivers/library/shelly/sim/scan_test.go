package sim_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/library/shelly/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/scan"
)

// TestScan looks for the simulated device, and for what npm's bonjour-service announces, which was not written here.
func TestScan(t *testing.T) {
	r := peertest.LoadSource(t, "../shelly.js")
	how := *r.Manifest().Scan
	how.LocalPort = 0
	const topic = "shellyplus1pm-a8032abe54dc"
	s, err := sim.New(sim.Options{Broker: "127.0.0.1:1", Topic: topic, MDNS: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	found := peertest.Scan(t, r, how, fmt.Sprintf(`{"address":%q}`, s.MDNSAddr()), peertest.Finds)
	if len(found.Found) != 1 {
		t.Fatalf("got %+v", found)
	}
	d := found.Found[0]
	if d.Network != "shelly" || d.Key != "id" || d.Value != topic || d.Driver != "shelly" || string(d.Settings) != `{"topic":"`+topic+`"}` || d.Name != "Shelly Plus1PM at 127.0.0.1" {
		t.Errorf("found %+v", d)
	}
	peertest.NeedMulticast(t)
	port := peertest.FreeUDP(t)
	services, err := json.Marshal([]map[string]any{
		{"name": "ShellyPro3EM-AC1518784B2C", "type": "shelly", "port": 80, "txt": map[string]string{"gen": "2", "app": "Pro3EM"}},
		{"name": "old-relay", "type": "shelly", "port": 80, "txt": map[string]string{"app": "1"}},
		{"name": "printer", "type": "http", "port": 80},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("MDNS_PORT", fmt.Sprint(port))
	t.Setenv("MDNS_SERVICES", string(services))
	peertest.NPM(t, "mdns.mjs")
	how.Port, how.LocalPort = port, port
	found = peertest.Scan(t, r, how, `{}`, peertest.Finds)
	if len(found.Found) != 1 || found.Found[0].Value != "shellypro3em-ac1518784b2c" || !strings.HasPrefix(found.Found[0].Name, "Shelly Pro3EM at ") {
		t.Errorf("of another's responder: %+v", found)
	}
}

// messages are what somebody may send in answer to a question: only the last one tells of a device, and ends behind its PTR, in
// compressed names (RFC 1035, section 4.1.4).
var messages = []string{
	"", "00", "000084000000", "00008400ffffffffffffffff", "000084000000000100000000c00c000c0001", "0000840000000001000000000c000c0001",
	"0000840000000001000000003f", "000084000000000100000000c00000c000",
	"000000000000000100000000" + device, "000084000000000200000000" + device + "ff",
}

const device = "075f7368656c6c79045f746370056c6f63616c00" + "000c0001" + "00001194" + "0004" + "0161c00c" // _shelly._tcp.local PTR a._shelly._tcp.local

func TestStrangeAnswers(t *testing.T) {
	r := peertest.LoadSource(t, "../shelly.js")
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		for buf := make([]byte, 512); ; {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, text := range messages {
				b, _ := hex.DecodeString(text)
				_, _ = c.WriteTo(b, from)
			}
			// The same, with a TXT record that says gen=3.
			b, _ := hex.DecodeString("000084000000000200000000" + device + "c02a" + "0010" + "0001" + "00000078" + "0006" + "0567656e3d33")
			_, _ = c.WriteTo(b, from)
		}
	}()
	how := *r.Manifest().Scan
	how.LocalPort = 0
	found := peertest.Scan(t, r, how, fmt.Sprintf(`{"address":%q}`, c.LocalAddr()), func(f *scan.Result) bool { return f.Answers == len(messages)+1 })
	if len(found.Found) != 1 || found.Found[0].Value != "a" || len(found.Notes) != 0 || found.Answers != len(messages)+1 {
		t.Errorf("got %+v", found)
	}
}
