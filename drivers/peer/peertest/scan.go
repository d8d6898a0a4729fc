package peertest

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/scan"
)

// Scan has a driver look through loopback until done says that it found what it should, or the deadline is over. how is as in the
// driver's manifest, options JSON. It gives what the last scan found.
func Scan(tb testing.TB, r drivers.Runner, how drivers.ScanOptions, options string, done func(*scan.Result) bool) *scan.Result {
	tb.Helper()
	model, err := r.(drivers.Modeler).Model().ValidateSettings([]byte("{}"))
	if err != nil {
		model = []byte("{}") // some are needed; a scan has none
	}
	for timeout, began := 300*time.Millisecond, time.Now(); ; timeout *= 2 {
		found, err := scan.Run(tb.Context(), scan.Options{Runner: r, Scan: &how, Network: netip.MustParsePrefix("127.0.0.0/24"), Timeout: timeout,
			Input: []byte(options), Tenant: "default", Settings: model})
		if err != nil {
			tb.Fatal(err)
		}
		if done(found) || time.Since(began) > Deadline {
			return found
		}
	}
}

// Finds says whether a scan found one device.
func Finds(r *scan.Result) bool { return len(r.Found) == 1 }

// FreeUDP gives a port of loopback that nobody has, at the moment.
func FreeUDP(tb testing.TB) int {
	tb.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// NeedMulticast skips the test where the machine has no multicast on its loopback interface.
func NeedMulticast(tb testing.TB) {
	tb.Helper()
	lo, err := net.InterfaceByIndex(1)
	if err != nil || lo.Flags&net.FlagLoopback == 0 {
		tb.Skip("the first interface is not loopback")
	}
	group := &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251)}
	heard, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		tb.Fatal(err)
	}
	defer heard.Close()
	group.Port = heard.LocalAddr().(*net.UDPAddr).Port
	p := ipv4.NewPacketConn(heard)
	err = p.JoinGroup(lo, group)
	if err == nil {
		_, err = p.WriteTo([]byte("x"), &ipv4.ControlMessage{IfIndex: lo.Index, Src: net.IPv4(127, 0, 0, 1)}, group)
	}
	if err == nil {
		_ = heard.SetReadDeadline(time.Now().Add(Deadline))
		_, _, err = heard.ReadFrom(make([]byte, 1))
	}
	if err != nil {
		tb.Skipf("this machine has no multicast on loopback: %v", err)
	}
}
