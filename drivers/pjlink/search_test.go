package main_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/pjlink/sim"
	"github.com/polluxhq/pollux/drivers/scan"
)

// testSearch looks for simulated projectors. They are not at PJLink's port, so that tests may run beside each other.
func testSearch(t *testing.T, r drivers.Runner) {
	s := startSim(t, sim.Options{Search: true, Seed: 7})
	how := *r.Manifest().Scan
	how.LocalPort = 0
	find := func(options string, done func(*scan.Result) bool) *scan.Result {
		t.Helper()
		return peertest.Scan(t, r, how, options, done)
	}
	address := fmt.Sprintf(`{"address":%q}`, s.Addrs()[0])
	found := find(address, peertest.Finds)
	if len(found.Found) != 1 || found.Sent != 1 || len(found.Notes) != 0 {
		t.Fatalf("got %+v", found)
	}
	if d := found.Found[0]; d.Network != "pjlink" || d.Key != "mac" || d.Value != s.Projectors()[0].MAC() || d.Driver != "pjlink" || d.URI != "tcp://127.0.0.1:4352" {
		t.Errorf("found %+v", d)
	}
	testStrangeAnswers(t, r, find)
	// Where the port that projectors answer to is taken, the scan goes on from another, and says so.
	taken, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	how.LocalPort = taken.LocalAddr().(*net.UDPAddr).Port
	if found := find(address, peertest.Finds); len(found.Found) != 1 || len(found.Notes) != 1 || !strings.Contains(found.Notes[0], "is taken on this node") {
		t.Errorf("with the port taken: %+v", found)
	}
}

// testStrangeAnswers has somebody answer with what is no acknowledgement, and then with one that lacks the colons.
func testStrangeAnswers(t *testing.T, r drivers.Runner, find func(string, func(*scan.Result) bool) *scan.Result) {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		for buf := make([]byte, 100); ; {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if string(buf[:n]) != "%2SRCH\r" {
				t.Errorf("asked %q", buf[:n])
			}
			for _, answer := range []string{"", "%2SRCH\r", "%2LKUP=0a:0b:0c:0d:0e:0f\r", "%2ACKN=\r", "%2ACKN=no:tt:he:ma:ca:dd\r", "%2ACKN=0A0B0C0D0E0F\r"} {
				_, _ = c.WriteTo([]byte(answer), from)
			}
		}
	}()
	all := func(f *scan.Result) bool { return f.Answers == 6 }
	found := find(fmt.Sprintf(`{"address":%q}`, c.LocalAddr()), all)
	if len(found.Found) != 1 || found.Answers != 6 || found.Found[0].Value != "0a:0b:0c:0d:0e:0f" {
		t.Errorf("strange answers: %+v", found)
	}
}
