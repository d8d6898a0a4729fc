package main_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/pjlink/sim"
	"github.com/polluxhq/pollux/drivers/scan"
)

// testSearch looks for simulated projectors. They are not at PJLink's port, so that tests may run beside each other.
func testSearch(t *testing.T, r drivers.Runner) {
	s := startSim(t, sim.Options{Search: true, Seed: 7})
	at := netip.MustParseAddrPort(s.Addrs()[0])
	how := *r.Manifest().Scan
	how.LocalPort = 0
	find := func(options string, done func(*scan.Result) bool) *scan.Result {
		t.Helper()
		for timeout, began := 300*time.Millisecond, time.Now(); ; timeout *= 2 {
			found, err := scan.Run(t.Context(), scan.Options{Runner: r, Scan: &how, Network: netip.MustParsePrefix("127.0.0.1/32"), Timeout: timeout,
				Input: []byte(options), Tenant: "default", Settings: []byte(`{"password":"","poll_s":10,"inputs":{}}`)})
			if err != nil {
				t.Fatal(err)
			}
			if done(found) || time.Since(began) > peertest.Deadline {
				return found
			}
		}
	}
	one := func(f *scan.Result) bool { return len(f.Found) == 1 }
	want := drivers.Discovery{Network: "pjlink", Key: "mac", Value: s.Projectors()[0].MAC(), Driver: "pjlink", URI: "tcp://127.0.0.1:4352"}
	how.Port = int(at.Port()) // a network of one address is asked at that address
	for _, options := range []string{`{}`, fmt.Sprintf(`{"address":%q}`, at)} {
		found := find(options, one)
		if len(found.Found) != 1 || found.Sent != 1 || len(found.Notes) != 0 {
			t.Fatalf("options %s: %+v", options, found)
		}
		got := found.Found[0]
		got.Name, got.Settings = "", nil
		if got.Network != want.Network || got.Key != want.Key || got.Value != want.Value || got.Driver != want.Driver || got.URI != want.URI {
			t.Errorf("options %s: found %+v, want %+v", options, got, want)
		}
	}
	testStrangeAnswers(t, r, find)
	// Where the port that projectors answer to is taken, the scan goes on from another, and says so.
	taken, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	how.Port, how.LocalPort = int(at.Port()), taken.LocalAddr().(*net.UDPAddr).Port
	if found := find(`{}`, one); len(found.Found) != 1 || len(found.Notes) != 1 || !strings.Contains(found.Notes[0], "is taken on this node") {
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
