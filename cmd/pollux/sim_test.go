package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/catalog"
)

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for: %s", what)
		}
	}
}

// TestSimWaitsForItsBroker: devices are ready when they are at the broker, and say what keeps them until then.
func TestSimWaitsForItsBroker(t *testing.T) {
	dataOfNode(t)
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := probe.Addr().String()
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs lines
	code := make(chan int, 1)
	go func() {
		code <- runTo(ctx, &out, &errs, nil, "sim", "tasmota", "--broker", addr, "--topic", "simwait", "--count", "2")
	}()
	until(t, "what is wrong", func() bool {
		return strings.Contains(errs.String(), "0 of 2 devices reached the broker "+addr) && strings.Contains(errs.String(), "refused")
	})
	if out.String() != "" {
		t.Fatalf("nobody is connected, and it says %q", out.String())
	}
	bridge(t, addr, theNode.node.MQTTAddr())
	until(t, "ready", func() bool { return out.String() == "ready tasmota=simwait-1 count=2\n" })
	cancel()
	if c := <-code; c != exitOK {
		t.Errorf("ended with %d: %s", c, errs.String())
	}
}

// TestEveryDriverHasASimulator: there is one for each driver that pollux carries, it says when it is ready, and it ends when it is told to.
func TestEveryDriverHasASimulator(t *testing.T) {
	all := catalog.Names()
	if len(all) < 10 {
		t.Fatal(all)
	}
	args := map[string][]string{
		"lorawan": {"--to", "http://127.0.0.1:1/hooks/default/desk"}, "shelly": {"--broker", "127.0.0.1:1"}, "zigbee2mqtt": {"--broker", "127.0.0.1:1"},
		"mqtt-json": {"--broker", "127.0.0.1:1"}, "room": {"--projector", "127.0.0.1:0", "--switcher", "127.0.0.1:0", "--lights", "127.0.0.1:0"},
	}
	for _, name := range all {
		switch name {
		case "mysensors-node": // its nodes are the gateway's
			continue
		case "tasmota": // TestSimWaitsForItsBroker
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			how, ok := args[name]
			if !ok {
				how = []string{"--listen", "127.0.0.1:0"}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var out, errs lines
			code := make(chan int, 1)
			go func() { code <- runTo(ctx, &out, &errs, nil, append([]string{"sim", name}, how...)...) }()
			ready := func() bool { return strings.HasPrefix(out.String(), "ready "+name+"=") }
			until(t, "ready", func() bool { return ready() || len(code) > 0 })
			cancel()
			if c := <-code; c != exitOK || !ready() {
				t.Errorf("ended with %d: %s%s", c, out.String(), errs.String())
			}
		})
	}
}

// bridge listens on addr and passes everything on.
func bridge(t *testing.T, addr, to string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, p := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					_, _ = io.Copy(p[0], p[1])
					_ = p[0].Close()
				}()
			}
		}
	}()
}

// TestKeyForNoTwin: a key for a device whose name is mistyped would be of no use, and nobody would know.
func TestKeyForNoTwin(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	t.Cleanup(func() { removeKeys(t, env) })
	r := cli(t.Context(), env, "key", "create", "--device", "nosuchlamp")
	if r.code != exitOK || !strings.Contains(r.out, "MQTT password") || !strings.Contains(r.err, "warning: there is no twin nosuchlamp;") {
		t.Errorf("%d\n%s%s", r.code, r.out, r.err)
	}
}

func TestVersion(t *testing.T) {
	r := cli(t.Context(), nil, "version", "-o", "json")
	var got build
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != exitOK {
		t.Fatalf("%d %v: %s%s", r.code, err, r.out, r.err)
	}
	if got.Version != version || got.Go != runtime.Version() || got.Platform != runtime.GOOS+"/"+runtime.GOARCH {
		t.Errorf("%+v", got)
	}
	if r := cli(t.Context(), nil, "version"); !strings.HasPrefix(r.out, "pollux ") || r.code != exitOK {
		t.Errorf("%d: %s%s", r.code, r.out, r.err)
	}
	if r := cli(t.Context(), nil, "version", "-o", "xml"); r.code != exitUsage {
		t.Errorf("%d: %s%s", r.code, r.out, r.err)
	}
}
