package scan_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/peer/announce"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/scan"
)

// driver is a Runner in Go: what a scan does is between it and the network.
type driver func(ctx context.Context, c drivers.Call, h drivers.Host) (drivers.Effects, error)

func (d driver) Manifest() *drivers.Manifest { return &drivers.Manifest{Name: "test"} }
func (d driver) Handle(ctx context.Context, c drivers.Call, h drivers.Host) (drivers.Effects, error) {
	return d(ctx, c, h)
}
func (d driver) Close() error { return nil }

// asks sends a frame at the beginning, and reports everybody who answers.
func asks(frame string) driver {
	return func(ctx context.Context, c drivers.Call, h drivers.Host) (e drivers.Effects, err error) {
		switch c.Event {
		case drivers.EventScan:
			e.Memory = []byte(`{"asked":true}`)
			return e, h.Send(ctx, []byte(frame))
		case drivers.EventReceived:
			if !bytes.Contains(c.State(), []byte(`"asked":true`)) {
				return e, errors.New("the memory is lost")
			}
			from, said, _ := bytes.Cut(c.Input, []byte{0})
			e.Discovered = append(e.Discovered, drivers.Discovery{Network: "test", Key: "id", Value: string(said), URI: "udp://" + string(from)})
		}
		return e, nil
	}
}

func network(t *testing.T, text string) netip.Prefix {
	t.Helper()
	p, err := scan.ParseNetwork(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// udpDevice answers each datagram with its name.
func udpDevice(t *testing.T, ip string, port int, name string) int {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(ip), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if string(buf[:n]) == "who" {
				_, _ = c.WriteToUDPAddrPort([]byte(name), from)
				_, _ = c.WriteToUDPAddrPort([]byte(name), from) // some say it twice
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).Port
}

func TestUDP(t *testing.T) {
	port := udpDevice(t, "127.0.0.1", 0, "one")
	udpDevice(t, "127.0.0.2", port, "two")
	udpDevice(t, "127.0.1.1", port, "outside")
	all := driver(func(ctx context.Context, c drivers.Call, h drivers.Host) (drivers.Effects, error) {
		if c.Event != drivers.EventScan {
			return asks("")(ctx, c, h)
		}
		var in drivers.ScanInput
		if err := json.Unmarshal(c.Input, &in); err != nil || in.Timeout != 300 || string(in.Options) != `{"x":1}` {
			t.Errorf("input %s: %v", c.Input, err)
		}
		h.Log("info", "looking")
		if err := h.Send(ctx, fmt.Appendf(nil, "127.0.1.1:%d\x00who", port)); !errors.Is(err, drivers.ErrDenied) {
			t.Errorf("beyond the network: %v", err)
		}
		if err := h.Send(ctx, []byte("who")); !errors.Is(err, drivers.ErrInvalid) {
			t.Errorf("without an address: %v", err)
		}
		if _, err := h.HTTP(ctx, drivers.HTTPRequest{}); !errors.Is(err, drivers.ErrDenied) {
			t.Errorf("http: %v", err)
		}
		return drivers.Effects{Memory: []byte(`{"asked":true}`)}, errors.Join(h.Send(ctx, []byte("127.0.0.1\x00who")), h.Send(ctx, fmt.Appendf(nil, "127.0.0.2:%d\x00who", port)))
	})
	res, err := scan.Run(t.Context(), scan.Options{Runner: all, Scan: &drivers.ScanOptions{Over: "udp", Port: port}, Network: network(t, "127.0.0.0/24"),
		Timeout: 300 * time.Millisecond, Input: json.RawMessage(`{"x":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Found) != 2 || res.Answers != 4 || res.Sent != 3 || len(res.Notes) != 1 || res.Notes[0] != "info: looking" {
		t.Fatalf("got %+v", res)
	}
	for _, d := range res.Found {
		if want := map[string]string{"one": "127.0.0.1", "two": "127.0.0.2"}[d.Value]; d.URI != fmt.Sprintf("udp://%s:%d", want, port) {
			t.Errorf("found %+v", d)
		}
	}
	// Nothing before the zero byte is everybody: of one address that one.
	res, err = scan.Run(t.Context(), scan.Options{Runner: asks("\x00who"), Scan: &drivers.ScanOptions{Over: "udp", Port: port}, Network: network(t, "127.0.0.2"),
		Timeout: 300 * time.Millisecond})
	if err != nil || len(res.Found) != 1 || res.Found[0].Value != "two" {
		t.Fatalf("got %+v, %v", res, err)
	}
	// Elsewhere than at the manifest's port; and one address is asked itself, also where the others are asked by a group.
	for _, how := range []*drivers.ScanOptions{{Over: "udp", Port: 9}, {Over: "udp", Port: 9, Group: "224.0.0.252"}} {
		res, err = scan.Run(t.Context(), scan.Options{Runner: asks("\x00who"), Scan: how, Port: uint16(port), Network: network(t, "127.0.0.2"),
			Timeout: 300 * time.Millisecond})
		if err != nil || len(res.Found) != 1 || res.Found[0].Value != "two" || how.Port != 9 {
			t.Fatalf("%+v: got %+v, %v", how, res, err)
		}
	}
}

// A group is asked, and heard where its port is the scan's, too, beside another on this machine who hears it there. What the node
// said itself is no answer, be it from its own address; what another says from there is.
func TestGroup(t *testing.T) {
	peertest.NeedMulticast(t)
	port := peertest.FreeUDP(t)
	group := netip.AddrPortFrom(netip.MustParseAddr("224.0.0.252"), uint16(port))
	device, err := announce.Listen(fmt.Sprintf("127.0.0.1:%d", port), group, func(question []byte, _ netip.AddrPort) ([]byte, bool) {
		if string(question) != "who" {
			return nil, false
		}
		return []byte("one"), true
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		device.Run(ctx)
	}()
	defer func() { cancel(); <-done }()
	how := &drivers.ScanOptions{Over: "udp", Port: port, LocalPort: port, Group: group.Addr().String()}
	for timeout := 200 * time.Millisecond; ; timeout *= 2 {
		res, err := scan.Run(t.Context(), scan.Options{Runner: asks("\x00who"), Scan: how, Network: network(t, "127.0.0.0/24"), Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Found) == 0 && timeout < 10*time.Second {
			continue // a loaded machine
		}
		if len(res.Found) != 1 || res.Found[0].Value != "one" || res.Found[0].URI != fmt.Sprintf("udp://127.0.0.1:%d", port) {
			t.Errorf("got %+v", res)
		}
		break
	}
	how.LocalPort = 0 // the answer is to the group, which nobody here hears now
	res, err := scan.Run(t.Context(), scan.Options{Runner: asks("\x00who"), Scan: how, Network: network(t, "127.0.0.0/24"), Timeout: 200 * time.Millisecond})
	if err != nil || len(res.Found) != 0 {
		t.Errorf("of one who does not hear the group: %+v, %v", res, err)
	}
	_, err = scan.Run(t.Context(), scan.Options{Runner: asks("\x00who"), Scan: how, Network: network(t, "fd00::/120")})
	if err == nil || !strings.Contains(err.Error(), "want a network of that kind of address") {
		t.Errorf("a group of another kind: %v", err)
	}
}

func TestTCPEndsWhenNobodyIsLeft(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if line, _ := bufio.NewReader(c).ReadString('\n'); line == "who\n" {
				fmt.Fprint(c, "two\nparts\n")
			}
			c.Close()
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	began := time.Now()
	res, err := scan.Run(t.Context(), scan.Options{Runner: asks("\x00who\n"), Network: network(t, "127.0.0.0/28"), Timeout: 30 * time.Second,
		Scan: &drivers.ScanOptions{Over: "tcp", Port: port, Tokenizer: &drivers.Tokenizer{Delimiter: "\n"}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Found) != 2 || res.Answers != 2 || time.Since(began) > 20*time.Second {
		t.Fatalf("got %+v after %v", res, time.Since(began))
	}
	for _, d := range res.Found {
		if d.URI != "udp://"+l.Addr().String() {
			t.Errorf("found %+v", d)
		}
	}
}

func TestBounds(t *testing.T) {
	for text, want := range map[string]string{"10.0.0.0/8": "more than 1024", "10.0.0.0/21": "more than 1024", "nowhere": "want a network", "224.0.0.0/24": "no devices",
		"10.0.0.0/22": "", "10.0.0.7": "", "fd00::/120": ""} {
		_, err := scan.ParseNetwork(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	options := scan.Options{Runner: asks(""), Network: network(t, "127.0.0.1"), Timeout: 50 * time.Millisecond}
	if _, err := scan.Run(t.Context(), options); err == nil || !strings.Contains(err.Error(), "cannot scan") {
		t.Errorf("without a manifest's word: %v", err)
	}
	options.Scan = &drivers.ScanOptions{Over: "udp", Port: 9}
	options.Runner = driver(func(context.Context, drivers.Call, drivers.Host) (drivers.Effects, error) {
		return drivers.Effects{}, &drivers.DriverError{Code: 3, Message: "not today"}
	})
	if _, err := scan.Run(t.Context(), options); err == nil || !strings.Contains(err.Error(), "not today") {
		t.Errorf("a refusal: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	options.Runner = driver(func(ctx context.Context, _ drivers.Call, h drivers.Host) (drivers.Effects, error) {
		for ctx.Err() == nil {
			if err := h.Send(ctx, []byte("127.0.0.1\x00x")); errors.Is(err, drivers.ErrRateLimited) {
				cancel() // nobody answers; the scan need not wait
				return drivers.Effects{}, nil
			}
		}
		return drivers.Effects{}, errors.New("nothing stopped it")
	})
	options.Timeout = 30 * time.Second
	if res, err := scan.Run(ctx, options); err != nil || res.Sent != 20_000 || !slices.Contains(res.Notes, "1 frames were beyond the most that a scan sends, and were not sent") {
		t.Errorf("a flood: %+v, %v", res, err)
	}
	// What is said of a scan is bounded, and what was left out is counted.
	options.Runner = driver(func(_ context.Context, _ drivers.Call, h drivers.Host) (drivers.Effects, error) {
		for i := range 60 {
			h.Log("info", fmt.Sprint(i))
		}
		return drivers.Effects{}, nil
	})
	options.Timeout = 50 * time.Millisecond
	if res, err := scan.Run(t.Context(), options); err != nil || len(res.Notes) != 51 || res.Notes[50] != "10 more notes are left out" {
		t.Errorf("a driver that talks: %+v, %v", res, err)
	}
	// A frame that is sent again and again to addresses nobody has is a scan's own affair, and ends with it.
	options.Scan, options.Runner, options.Timeout = &drivers.ScanOptions{Over: "tcp", Port: 1}, asks("\x00x"), 5*time.Second
	if res, err := scan.Run(t.Context(), options); err != nil || len(res.Found) != 0 {
		t.Errorf("nobody there: %+v, %v", res, err)
	}
}
