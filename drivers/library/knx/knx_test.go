package knx_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/library/knx/sim"
	"github.com/polluxhq/pollux/drivers/peer"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/scan"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/udp"
)

func open(t *testing.T, addr, settings string) *peertest.Twin {
	t.Helper()
	r := peertest.LoadFile(t, drivertest.Rust(t, "."))
	tw := peertest.New(t, r, settings)
	c, err := udp.Open(transport.Options{Binding: drivers.Binding{URI: "udp://" + addr, Transport: *r.Manifest().TransportFor("udp")}, Sink: tw})
	if err != nil {
		t.Fatal(err)
	}
	tw.Attach(c)
	return tw
}

// knxd starts Debian's daemon with a bus that has nobody else on it. tool runs a client of its own on that bus, and lines
// are what it hears there.
func knxd(t *testing.T) (addr string, tool func(args ...string), lines <-chan string) {
	t.Helper()
	for _, program := range []string{"knxd", "knxtool"} {
		if _, err := exec.LookPath(program); err != nil {
			drivertest.Missing(t, "knxd is not installed: apt-get install knxd knxd-tools")
		}
	}
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := c.LocalAddr().(*net.UDPAddr).Port
	_ = c.Close()
	socket := filepath.Join(t.TempDir(), "bus")
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	start := func(program string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, program, args...)
		t.Cleanup(func() { cancel(); _ = cmd.Wait() })
		return cmd
	}
	daemon := start("knxd", "-e", "1.0.0", "-E", "1.0.1:100", "-D", "-T", fmt.Sprintf("--Server=224.0.23.12:%d", port), "--listen-local="+socket, "-b", "dummy:")
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	url := "local:" + socket
	tool = func(args ...string) {
		t.Helper()
		args = append([]string{args[0], url}, args[1:]...)
		var out []byte
		var err error
		for range 20 { // knxd is sometimes busy with the client before
			if out, err = exec.CommandContext(ctx, "knxtool", args...).CombinedOutput(); err == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatalf("knxtool %v: %v: %s", args, err, out)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		if c, err := net.Dial("unix", socket); err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("knxd does not start")
		}
		time.Sleep(10 * time.Millisecond)
	}
	ear := start("knxtool", "groupsocketlisten", url)
	out, err := ear.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ear.Start(); err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 1000)
	go func() {
		defer close(heard)
		for s := bufio.NewScanner(out); s.Scan(); {
			heard <- s.Text()
		}
	}()
	return fmt.Sprintf("127.0.0.1:%d", port), tool, heard
}

// until waits for a line of the bus.
func until(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case line := <-lines:
			if strings.Contains(line, want) {
				return
			}
		case <-limit:
			t.Fatalf("nobody on the bus said %q", want)
		}
	}
}

const settings = `{"monitor":true,"groups":[
	{"name":"light","address":"1/2/3","writable":true},
	{"name":"level","address":"1/2/4","send":"1/2/5","dpt":"5.001","writable":true},
	{"name":"temperature","address":"3/0/1","dpt":"9.001"},
	{"name":"setpoint","address":"3/0/2","dpt":"9.001","writable":true},
	{"name":"text","address":"4/0/0","dpt":"16.000","read":false,"writable":true}]}`

// The driver against Debian's knxd, with its own tool as the other device on the bus.
func TestAgainstKnxd(t *testing.T) {
	addr, tool, lines := knxd(t)
	tw := open(t, addr, settings)
	tw.UntilHas("tunnel", "true")
	until(t, lines, "to 1/2/3") // it asks for what it wants to know
	until(t, lines, "to 3/0/2")
	tool("groupswrite", "1/2/3", "1")
	tw.UntilHas("light", "true")
	tool("groupwrite", "3/0/1", "0c", "1a")
	tw.UntilHas("temperature", "21")
	tool("groupwrite", "1/2/4", "80")
	tw.UntilHas("level", "50.2")
	for _, c := range []struct{ property, value, says string }{
		{"light", "false", "to 1/2/3: 00"}, {"level", "100", "to 1/2/5: FF"}, {"setpoint", "-30", "to 3/0/2: 8A 24"},
		{"text", `"hello"`, "to 4/0/0: 68 65 6C 6C 6F 00"},
	} {
		if err := tw.Set(c.property, c.value); err != nil {
			t.Fatal(c.property, err)
		}
		until(t, lines, c.says)
	}
	tw.UntilHas("light", "false")
	tw.UntilHas("setpoint", "-30")
	answer := make(chan string)
	go func() {
		out, err := tw.Invoke("read", `{"address":"5/0/1","dpt":"1.001"}`)
		answer <- fmt.Sprint(out, err)
	}()
	until(t, lines, "to 5/0/1")
	tool("groupsresponse", "5/0/1", "1")
	if got := <-answer; got != "true<nil>" {
		t.Errorf("read: %s", got)
	}
	if err := tw.Set("level", "101"); err == nil {
		t.Error("101 % was sent")
	}
	if len(tw.Events()) == 0 {
		t.Error("no telegram was told")
	}
}

func TestAgainstTheSimulator(t *testing.T) {
	s, err := sim.New(sim.Options{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	tw := open(t, s.Addr(), settings)
	tw.UntilHas("address", `"1.1.10"`)
	tw.UntilHas("temperature", "21")
	tw.UntilHas("light", "false")
	if err := tw.Set("light", "true"); err != nil || s.Value(sim.Light)[0] != 1 {
		t.Errorf("light: %v, %x", err, s.Value(sim.Light))
	}
	if err := tw.Set("level", "100"); err != nil || s.Value(sim.DimmerSet)[1] != 255 {
		t.Errorf("level: %v, %x", err, s.Value(sim.DimmerSet))
	}
	tw.UntilHas("level", "100") // told at another group
	s.Tell(sim.Temperature, []byte{0, 0x8a, 0x24})
	tw.UntilHas("temperature", "-30")
	s.HangUp()
	s.Tell(sim.Light, []byte{0}) // nobody hears it: the value is read when the tunnel is open again
	tw.UntilHas("light", "false")
	tw.UntilHas("tunnel", "true")
}

// A gateway that loses datagrams: the driver asks again, and in the worst case opens the tunnel anew.
func TestLostDatagrams(t *testing.T) {
	s, err := sim.New(sim.Options{Listen: "127.0.0.1:0", Faults: peer.Faults{Silence: 0.05}, Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, s.Run)
	tw := open(t, s.Addr(), settings)
	tw.UntilHas("tunnel", "true")
	for i, value := range []string{"21.5", "22", "22.5", "23", "23.5", "24"} {
		var err error
		for range 5 {
			if err = tw.Set("setpoint", value); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatal(i, err)
		}
		tw.UntilHas("setpoint", value)
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
	if err != nil || len(found.Found) != 1 || found.Found[0].Driver != "knx" || found.Found[0].Name != "Simulated gateway" {
		t.Errorf("%+v, %v", found, err)
	}
}
