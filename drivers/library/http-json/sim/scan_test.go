package sim_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/library/http-json/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/scan"
)

// TestScan searches for the simulated meter, by its own address and where the machine has multicast on loopback by the group,
// and for npm's node-ssdp, which was not written here.
func TestScan(t *testing.T) {
	r := peertest.LoadSource(t, "../http-json.js")
	how := *r.Manifest().Scan
	start := func(at string) *sim.Sim {
		s, err := sim.New(sim.Options{Listen: "127.0.0.1:0", SSDP: at})
		if err != nil {
			t.Fatal(err)
		}
		peertest.Running(t, s.Run)
		return s
	}
	s := start("127.0.0.1:0")
	for _, target := range []string{"", `,"target":"ssdp:all"`, `,"target":"urn:schemas-example-org:device:Meter:1"`} {
		found := peertest.Scan(t, r, how, fmt.Sprintf(`{"address":%q%s}`, s.SSDPAddr(), target), peertest.Finds)
		if len(found.Found) != 1 {
			t.Fatalf("target %s: got %+v", target, found)
		}
		if d := found.Found[0]; d.Network != "upnp" || d.Key != "uuid" || d.Value != "0c2f2a6e-1f6b-4c8e-9d1a-7b6f00a1b2c3" || d.Driver != "http-json" || d.URI != "http://"+s.Addr() {
			t.Errorf("target %s: found %+v", target, d)
		}
	}
	peertest.NeedMulticast(t)
	grouped := start("127.0.0.1:1900")
	isIt := func(f *scan.Result) bool { return len(f.Found) > 0 && f.Found[0].URI == "http://"+grouped.Addr() }
	if found := peertest.Scan(t, r, how, `{"target":"urn:schemas-example-org:device:Meter:1"}`, isIt); !isIt(found) {
		t.Errorf("by the group: %+v", found)
	}
	port := peertest.FreeUDP(t)
	t.Setenv("SSDP_PORT", fmt.Sprint(port))
	t.Setenv("SSDP_LOCATION", "http://127.0.0.1:8099/description.xml")
	peertest.NPM(t, "ssdp.mjs")
	how.Port = port
	found := peertest.Scan(t, r, how, `{}`, peertest.Finds)
	if len(found.Found) != 1 || found.Found[0].Value != "5d794fc2-5c5e-4460-a023-f04a51363300" || found.Found[0].URI != "http://127.0.0.1:8099" ||
		!strings.HasPrefix(found.Found[0].Name, "Test/1.0") {
		t.Errorf("of another's device: %+v", found)
	}
}

// Who answers speaks for itself alone, and what is no answer is passed over.
func TestStrangeAnswers(t *testing.T) {
	r := peertest.LoadSource(t, "../http-json.js")
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answers := []string{"", "\x00\xff", "NOTIFY * HTTP/1.1\r\nLOCATION: http://127.0.0.1/\r\nUSN: uuid:a\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nLOCATION: http://127.0.0.1/\r\nUSN: none\r\n\r\n", "HTTP/1.1 200 OK\r\nLOCATION: file:///etc/passwd\r\nUSN: uuid:a\r\n\r\n",
		"HTTP/1.1 200 OK\r\nLOCATION: http://127.0.0.1@10.0.0.1/\r\nUSN: uuid:a\r\n\r\n", "HTTP/1.1 200 OK\r\nLOCATION: http://10.0.0.1/\r\nUSN: uuid:a\r\n\r\n"}
	go func() {
		for buf := make([]byte, 512); ; {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, text := range answers {
				_, _ = c.WriteTo([]byte(text), from)
			}
		}
	}()
	found := peertest.Scan(t, r, *r.Manifest().Scan, fmt.Sprintf(`{"address":%q}`, c.LocalAddr()), func(f *scan.Result) bool { return f.Answers == len(answers) })
	if len(found.Found) != 0 || len(found.Notes) != 1 || !strings.Contains(found.Notes[0], "127.0.0.1 says that 10.0.0.1 is to be asked") || found.Answers != len(answers) {
		t.Errorf("got %+v", found)
	}
}
