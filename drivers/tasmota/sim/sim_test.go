package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/polluxhq/pollux/drivers/peer"
)

// broker starts a bare MQTT broker.
func broker(t *testing.T, rules *auth.Ledger) string {
	t.Helper()
	s := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	var err error
	if rules == nil {
		err = s.AddHook(new(auth.AllowHook), nil)
	} else {
		err = s.AddHook(new(auth.Hook), &auth.Options{Ledger: rules})
	}
	if err != nil {
		t.Fatal(err)
	}
	l := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0"})
	if err := s.AddListener(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return l.Address()
}

func start(t *testing.T, o Options) *Sim {
	t.Helper()
	s, err := New(o)
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

// ear hears everything on a broker and keeps it.
type ear struct {
	t  *testing.T
	c  paho.Client
	mu sync.Mutex
	m  []paho.Message
}

// leave disconnects without waiting for it, which can hang where the client's wait is over in the same moment.
func leave(c paho.Client) { go c.Disconnect(leaveWithin) }

func listen(t *testing.T, addr, user string) *ear {
	t.Helper()
	e := &ear{t: t}
	e.c = paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + addr).SetClientID("ear").SetUsername(user).SetPassword(user))
	if tok := e.c.Connect(); !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
		t.Fatal("connect", tok.Error())
	}
	t.Cleanup(func() { leave(e.c) })
	tok := e.c.Subscribe("#", 1, func(_ paho.Client, m paho.Message) {
		e.mu.Lock()
		e.m = append(e.m, m)
		e.mu.Unlock()
	})
	if !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
		t.Fatal("subscribe", tok.Error())
	}
	// The broker says so before it looks for retained messages, and looks while others write them, a data race of its own. It takes what a client
	// sends in order: when it answers this, it has looked.
	if tok := e.c.Subscribe("looked", 1, nil); !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
		t.Fatal("subscribe", tok.Error())
	}
	return e
}

func (e *ear) say(topic, payload string) {
	e.t.Helper()
	if tok := e.c.Publish(topic, 1, false, payload); !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
		e.t.Fatal("publish", tok.Error())
	}
}

// hear waits for a message that came after the given number of messages.
func (e *ear) hear(after int, topic, part string) paho.Message {
	e.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		e.mu.Lock()
		for _, m := range e.m[min(after, len(e.m)):] {
			if m.Topic() == topic && strings.Contains(string(m.Payload()), part) {
				e.mu.Unlock()
				return m
			}
		}
		e.mu.Unlock()
		if time.Now().After(deadline) {
			e.mu.Lock()
			defer e.mu.Unlock()
			for _, m := range e.m[min(after, len(e.m)):] {
				e.t.Logf("%s %s", m.Topic(), m.Payload())
			}
			e.t.Fatalf("never heard %s with %q", topic, part)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (e *ear) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.m)
}

// ask sends a command and waits for the answer.
func (e *ear) ask(topic, command, payload, answer, part string) paho.Message {
	e.t.Helper()
	n := e.count()
	e.say("cmnd/"+topic+"/"+command, payload)
	return e.hear(n, "stat/"+topic+"/"+answer, part)
}

func TestAnnouncesAndObeys(t *testing.T) {
	addr := broker(t, nil)
	e := listen(t, addr, "")
	s := start(t, Options{Broker: addr, Topic: "desk", Kinds: []Kind{Switch2}})
	m := e.hear(0, "tele/desk/LWT", "Online")
	if m.Qos() != 1 {
		t.Errorf("QoS %d", m.Qos())
	}
	e.hear(0, "tele/desk/INFO1", `{"Info1":{"Module":`)
	e.hear(0, "stat/desk/RESULT", `{"POWER1":"OFF"}`)
	e.hear(0, "tele/desk/STATE", `"POWER2":"OFF"`)
	e.ask("desk", "Power1", "ON", "RESULT", `{"POWER1":"ON"}`)
	e.ask("desk", "POWER2", "toggle", "POWER2", "ON")
	d := s.Device("desk")
	if !d.Power(1) || !d.Power(2) || d.Power(3) {
		t.Error("power")
	}
	e.ask("desk", "power0", "0", "POWER2", "OFF")
	if d.Power(1) || d.Power(2) {
		t.Error("power0")
	}
	e.ask("desk", "Power1", "", "POWER1", "OFF") // a question
	e.ask("desk", "Backlog", "Power1 ON; Power2 ON", "POWER2", "ON")
	e.ask("desk", "Dimmer", "10", "RESULT", `{"Command":"Unknown","Input":"DIMMER"}`)
	n := e.count()
	d.Press(2)
	e.hear(n, "stat/desk/POWER2", "OFF")
	told := 0
	for _, x := range s.Journal().Entries("desk") {
		if x.Event == "told" && x.Text == "Power1 ON" {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times in the journal", told)
	}
	if acked, unacked := d.Published(); acked < 10 || unacked != 0 {
		t.Errorf("acked %d, unacked %d", acked, unacked)
	}
}

func TestPresence(t *testing.T) {
	addr := broker(t, nil)
	e := listen(t, addr, "")
	s := start(t, Options{Broker: addr, Topic: "desk", Retry: 50 * time.Millisecond})
	e.hear(0, "tele/desk/LWT", "Online")
	for deadline := time.Now().Add(30 * time.Second); !s.Device("desk").Connected() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	n := e.count()
	s.Device("desk").Cut()
	e.hear(n, "tele/desk/LWT", "Offline")
	e.hear(n, "tele/desk/LWT", "Online")
	late := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + addr).SetClientID("late"))
	if tok := late.Connect(); !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer leave(late)
	got := make(chan string, 1)
	late.Subscribe("tele/desk/LWT", 0, func(_ paho.Client, m paho.Message) { got <- fmt.Sprint(string(m.Payload()), m.Retained()) })
	select {
	case x := <-got:
		if x != "Onlinetrue" {
			t.Error(x)
		}
	case <-time.After(30 * time.Second):
		t.Error("presence is not retained")
	}
}

func TestStatus(t *testing.T) {
	addr := broker(t, nil)
	e := listen(t, addr, "")
	start(t, Options{Broker: addr, Topic: "plug", Kinds: []Kind{Plug}})
	e.hear(0, "tele/plug/SENSOR", `"ENERGY":{"TotalStartTime"`)
	n := e.count()
	e.say("cmnd/plug/Status", "0")
	for name, part := range map[string]string{
		"STATUS": `"FriendlyName":["plug"]`, "STATUS1": `"StatusPRM"`, "STATUS2": `"Version":"13.4.0(tasmota)"`,
		"STATUS5": `"IPAddress":"192.168.`, "STATUS10": `{"StatusSNS":{"Time"`, "STATUS11": `{"StatusSTS":{"Time"`,
	} {
		if m := e.hear(n, "stat/plug/"+name, part); !json.Valid(m.Payload()) {
			t.Errorf("%s is no JSON: %s", name, m.Payload())
		}
	}
	e.ask("plug", "Status", "8", "STATUS8", `"StatusSNS"`)
	if m := e.ask("plug", "Status0", "", "STATUS0", `"StatusSTS"`); !json.Valid(m.Payload()) {
		t.Errorf("no JSON: %s", m.Payload())
	}
	// In discovery the device says what it is.
	var found bool
	e.mu.Lock()
	for _, m := range e.m {
		if strings.HasPrefix(m.Topic(), "tasmota/discovery/DC4F22") && strings.HasSuffix(m.Topic(), "/config") {
			var c struct {
				T  string
				RL []int
			}
			found = json.Unmarshal(m.Payload(), &c) == nil && c.T == "plug" && len(c.RL) == 8 && c.RL[0] == 1 && c.RL[1] == 0
		}
	}
	e.mu.Unlock()
	if !found {
		t.Error("no discovery")
	}
}

func TestLight(t *testing.T) {
	addr := broker(t, nil)
	e := listen(t, addr, "")
	s := start(t, Options{Broker: addr, Topic: "lamp", Kinds: []Kind{Light}})
	e.hear(0, "tele/lamp/STATE", `"HSBColor"`)
	d := s.Device("lamp")
	e.ask("lamp", "Color", "FF8000", "RESULT", `"Color":"FF80000000"`)
	if d.Dimmer() != 100 || !d.Power(1) {
		t.Errorf("dimmer %d", d.Dimmer())
	}
	e.ask("lamp", "Dimmer", "50", "RESULT", `"Dimmer":50`)
	e.ask("lamp", "HSBColor", "120,100,40", "RESULT", `"HSBColor":"120,100,40"`)
	e.ask("lamp", "Color", "", "RESULT", `"Color":"0066000000"`)
	e.ask("lamp", "CT", "153", "RESULT", `"Color":"00000066`)
	e.ask("lamp", "CT", "9999", "RESULT", `"CT":153`)
	e.ask("lamp", "Dimmer", "0", "RESULT", `"POWER":"OFF"`)
	if d.Power(1) {
		t.Error("still on")
	}
}

func TestEveryKindSpeaksJSON(t *testing.T) {
	addr := broker(t, nil)
	e := listen(t, addr, "")
	s := start(t, Options{Broker: addr, Topic: "d", Count: len(Kinds()) * 2, Period: 20 * time.Millisecond, OldFirmware: true})
	for _, d := range s.Devices() {
		e.hear(0, "tele/"+d.Topic()+"/STATE", "UptimeSec")
		e.hear(0, "tele/"+d.Topic()+"/INFO1", `{"Module":`)
		switch d.Kind() {
		case AM2301, DHT11, BME280:
			e.hear(0, "tele/"+d.Topic()+"/SENSOR", `"Humidity"`)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.m {
		if p := m.Payload(); len(p) > 0 && p[0] == '{' && !json.Valid(p) {
			t.Errorf("%s: %s", m.Topic(), p)
		}
	}
}

func TestValuesFollowTheDay(t *testing.T) {
	s, err := New(Options{Kinds: []Kind{BME280}})
	if err != nil {
		t.Fatal(err)
	}
	d := s.Devices()[0]
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	night, nightHumidity, _, _ := d.climate(day.Add(4 * time.Hour))
	noon, noonHumidity, dew, pressure := d.climate(day.Add(16 * time.Hour))
	if noon < night+2 || noonHumidity > nightHumidity-5 || dew > noon || pressure < 950 || pressure > 1060 {
		t.Errorf("night %.1f °C %.0f %%, afternoon %.1f °C %.0f %%, dew point %.1f, %.0f hPa", night, nightHumidity, noon, noonHumidity, dew, pressure)
	}
	if d.office(day.Add(3*time.Hour)) != 0 || d.office(day.Add(12*time.Hour)) != 1 {
		t.Error("office hours")
	}
}

func TestMeterCounts(t *testing.T) {
	s, err := New(Options{Kinds: []Kind{Plug}})
	if err != nil {
		t.Fatal(err)
	}
	d := s.Devices()[0]
	d.power[0] = true
	from := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	d.energy.read = from
	d.meter(from)
	before := d.energy.total
	d.energy.watts = 100
	d.meter(from.Add(time.Hour))
	if got := d.energy.total - before; got < .0999 || got > .1001 {
		t.Errorf("100 W for an hour are %.4f kWh", got)
	}
	today := d.energy.today
	d.energy.watts = 0
	d.meter(from.Add(24 * time.Hour))
	if d.energy.today != 0 || d.energy.yesterday != today {
		t.Errorf("after midnight: today %.3f, yesterday %.3f", d.energy.today, d.energy.yesterday)
	}
}

func TestCredentials(t *testing.T) {
	addr := broker(t, &auth.Ledger{Auth: auth.AuthRules{
		{Username: "ear", Password: "ear", Allow: true},
		{Username: "desk-1", Password: "secret-desk-1", Allow: true},
	}})
	e := listen(t, addr, "ear")
	s := start(t, Options{
		Broker: addr, Topic: "desk", Count: 2, Retry: 20 * time.Millisecond,
		Credentials: func(topic string) (string, string) { return topic, "secret-" + topic },
	})
	e.hear(0, "tele/desk-1/LWT", "Online")
	x, err := s.Journal().Wait(t.Context(), func(e peer.Entry) bool { return e.Device == "desk-2" && e.Event == "fault" })
	if err != nil || strings.Contains(x.Text, "secret") {
		t.Errorf("%+v, %v", x, err)
	}
}

func TestFaults(t *testing.T) {
	addr := broker(t, nil)
	e := listen(t, addr, "")
	s := start(t, Options{Broker: addr, Topic: "desk", Period: 20 * time.Millisecond, Retry: 20 * time.Millisecond})
	e.hear(0, "tele/desk/STATE", "UptimeSec")
	wait := func(text string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := s.Journal().Wait(ctx, func(e peer.Entry) bool { return e.Event == "fault" && e.Text == text }); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	s.SetFaults(peer.Faults{Silence: 1})
	wait("silent")
	s.SetFaults(peer.Faults{Garbage: 1})
	wait("garbage")
	n := e.count()
	s.SetFaults(peer.Faults{Drop: 1})
	e.hear(n, "tele/desk/LWT", "Offline")
	wait("dropped")
	s.SetFaults(peer.Faults{Refuse: 1})
	wait("refused")
	n = e.count()
	s.SetFaults(peer.Faults{})
	e.hear(n, "tele/desk/LWT", "Online")
	e.hear(n, "tele/desk/STATE", "UptimeSec")
}

func TestWrongOptions(t *testing.T) {
	two := byte(3)
	for want, o := range map[string]Options{
		"broker": {Broker: "nowhere"}, "topic": {Topic: "a/b"}, "kind": {Kinds: []Kind{"toaster"}}, "qos": {QoS: &two},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
