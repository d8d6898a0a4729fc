package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/mqtt"
	"github.com/polluxhq/pollux/drivers/peer"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/drivers/tasmota/sim"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// These tests run the compiled driver in the real sandbox, behind the real broker, against simulated devices.

// site gives messages to the twin whose topics they are on, as the node does: by the manifest's filters, which here are
// those of the driver, spelled out.
type site struct {
	mu     sync.Mutex
	twins  map[string]*peertest.Twin // by topic
	bridge *peertest.Twin
}

func (s *site) Authenticate(string, string, []byte) (mqtt.Grant, error) {
	return mqtt.Grant{}, errors.New("anonymous only")
}

func (s *site) Deliver(m *mqtt.Message, done func(error)) {
	s.mu.Lock()
	prefix, rest, _ := strings.Cut(m.Topic, "/")
	topic, name, _ := strings.Cut(rest, "/")
	twin, bridge := s.twins[topic], s.bridge
	s.mu.Unlock()
	frame := append(append([]byte(m.Topic), 0), m.Payload...)
	if bridge != nil && (prefix == "tasmota" && strings.HasSuffix(name, "/config") || prefix == "tele" && name == "LWT") {
		bridge.Received(frame)
	}
	if twin != nil && (prefix == "tele" || prefix == "stat") && !strings.Contains(name, "/") {
		switch {
		case name == "LWT" && string(m.Payload) == "Online":
			twin.Connected()
		case name == "LWT":
			twin.Disconnected(errors.New("offline"))
		default:
			twin.Received(frame)
		}
	}
	done(nil)
}

func openSite(t *testing.T) (*site, *mqtt.Broker) {
	t.Helper()
	s := &site{twins: map[string]*peertest.Twin{}}
	b, err := mqtt.Open(mqtt.Options{Addr: "127.0.0.1:0", Store: storagetest.OpenSingle(t, "data", vfs.NewMem()), Handler: s, AllowAnonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return s, b
}

func (s *site) add(t *testing.T, r drivers.Runner, b *mqtt.Broker, topic string) *peertest.Twin {
	t.Helper()
	tw := peertest.NewPublisher(t, r, `{"topic":"`+topic+`"}`, b.Publish)
	s.mu.Lock()
	s.twins[topic] = tw
	s.mu.Unlock()
	return tw
}

func startSim(t *testing.T, b *mqtt.Broker, o sim.Options) *sim.Sim {
	t.Helper()
	o.Broker, o.Retry = b.Addr().String(), 50*time.Millisecond
	s, err := sim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestInTheSandbox(t *testing.T) {
	r := peertest.Load(t, ".") // takes seconds: once for all
	t.Run("relays", func(t *testing.T) { testRelays(t, r) })
	t.Run("light", func(t *testing.T) { testLight(t, r) })
	t.Run("every kind", func(t *testing.T) { testKinds(t, r) })
	t.Run("bridge", func(t *testing.T) { testBridge(t, r) })
	t.Run("bad devices", func(t *testing.T) { testBadDevices(t, r) })
}

func testRelays(t *testing.T, r drivers.Runner) {
	site, b := openSite(t)
	tw := site.add(t, r, b, "desk")
	s := startSim(t, b, sim.Options{Topic: "desk", Kinds: []sim.Kind{sim.Switch4}})
	d := s.Devices()[0]
	tw.UntilHas("power4", "false")
	tw.UntilHas("name", `"desk"`) // of the answer to Status 0
	tw.UntilHas("version", `"13.4.0(tasmota)"`)
	if err := tw.Set("power3", "true"); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("power3", "true")
	if !d.Power(3) || d.Power(1) {
		t.Error("the wrong relay")
	}
	if _, err := tw.Invoke("toggle", `{"relay":3}`); err != nil {
		t.Fatal(err)
	}
	tw.UntilHas("power3", "false")
	if err := tw.Set("power5", "true"); !errors.Is(err, drivers.ErrUnknown) {
		t.Errorf("a relay that is not there: %v", err)
	}
	if _, err := tw.Invoke("power", `{"relay":9,"on":true}`); err == nil || d.Power(1) {
		t.Errorf("a relay that is not there: %v", err)
	}
	d.Press(2)
	tw.UntilHas("power2", "true")
	if out, err := tw.Invoke("command", `{"command":"TelePeriod","payload":"60"}`); err != nil || out != `{"TelePeriod":60}` {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := tw.Invoke("command", `{"command":"Dance"}`); err == nil {
		t.Error("the device knows Dance")
	}
	d.Cut()
	tw.UntilHas("mqtt_count", "2") // it is back
	if err := tw.Set("power1", "true"); err != nil {
		t.Fatal(err)
	}
	if !d.Power(1) {
		t.Error("power1")
	}
}

func testLight(t *testing.T, r drivers.Runner) {
	site, b := openSite(t)
	tw := site.add(t, r, b, "lamp")
	s := startSim(t, b, sim.Options{Topic: "lamp", Kinds: []sim.Kind{sim.Light}})
	tw.UntilHas("mqtt_count", "1")
	for _, c := range [][2]string{{"color", `"#FF8000"`}, {"dimmer", "40"}, {"hsb", `"120,100,50"`}, {"ct", "250"}, {"power1", "false"}} {
		if err := tw.Set(c[0], c[1]); err != nil {
			t.Fatalf("%s: %v", c[0], err)
		}
		tw.UntilHas(c[0], c[1])
	}
	if d := s.Devices()[0]; d.Dimmer() != 50 || d.Power(1) {
		t.Errorf("dimmer %d, power %v", d.Dimmer(), d.Power(1))
	}
	if err := tw.Set("dimmer", "101"); err == nil {
		t.Error("dimmer 101")
	}
}

func testKinds(t *testing.T, r drivers.Runner) {
	site, b := openSite(t)
	kinds := sim.Kinds()
	o := sim.Options{Topic: "d", Count: 2 * len(kinds), Period: 50 * time.Millisecond, OldFirmware: true}
	twins := map[string]*peertest.Twin{}
	s, err := sim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range s.Devices() {
		twins[d.Topic()] = site.add(t, r, b, d.Topic())
	}
	for _, d := range startSim(t, b, o).Devices() {
		for _, property := range map[sim.Kind][]string{
			sim.Plug: {"power1", "power_w", "total_kwh", "voltage", "current"}, sim.AM2301: {"am2301_temperature", "am2301_dew_point"},
			sim.DHT11: {"dht11_humidity"}, sim.BME280: {"bme280_pressure", "bme280_temperature"}, sim.Dimmer: {"dimmer", "power1"},
			sim.Switch1: {"switch1", "power1"}, sim.Switch2: {"power2"}, sim.Switch4: {"power4"}, sim.Light: {"color", "hsb", "ct", "white"},
		}[d.Kind()] {
			twins[d.Topic()].Until(string(d.Kind())+" has "+property, func(p map[string]json.RawMessage, _ bool) bool { return p[property] != nil })
		}
		twins[d.Topic()].UntilHas("module", `"Simulated `+string(d.Kind())+`"`)
	}
}

func testBridge(t *testing.T, r drivers.Runner) {
	site, b := openSite(t)
	site.bridge = peertest.New(t, r, `{"discover":true}`)
	startSim(t, b, sim.Options{Topic: "new", Count: 3})
	for _, topic := range []string{"new-1", "new-2", "new-3"} {
		d := site.bridge.UntilFound(topic)
		if d.Network != "tasmota" || d.Key != "topic" || d.Driver != "tasmota" || string(d.Settings) != `{"topic":"`+topic+`"}` {
			t.Errorf("%+v, settings %s", d, d.Settings)
		}
	}
}

func testBadDevices(t *testing.T, r drivers.Runner) {
	site, b := openSite(t)
	var twins []*peertest.Twin
	for _, topic := range []string{"bad-1", "bad-2", "bad-3"} {
		twins = append(twins, site.add(t, r, b, topic))
	}
	s := startSim(t, b, sim.Options{
		Topic: "bad", Count: 3, Kinds: []sim.Kind{sim.Plug}, Period: 10 * time.Millisecond, Seed: 3,
		Faults: peer.Faults{Garbage: .3, Silence: .2, Drop: .02, Refuse: .2, Jitter: 3 * time.Millisecond},
	})
	time.Sleep(time.Second) // of trouble; a trap of the driver fails the test
	s.SetFaults(peer.Faults{})
	for i, tw := range twins {
		tw.Until("connected", func(_ map[string]json.RawMessage, connected bool) bool {
			return connected && s.Devices()[i].Connected()
		})
		if err := tw.Set("power1", "true"); err != nil {
			t.Errorf("device %d: %v", i, err)
		}
		tw.UntilHas("power1", "true")
	}
}
