package peertest

import (
	"net"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
)

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
