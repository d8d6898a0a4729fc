// Package sim simulates a Shelly Plus 1PM over MQTT: one relay with its meter, and one input. It shares no code with the
// driver, so that one can tell when the other is wrong.
package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/polluxhq/pollux/drivers/peer"
	"github.com/polluxhq/pollux/drivers/peer/announce"
)

// Options of a simulated device. The zero value is shellyplus1pm-000000000001 at 127.0.0.1:1883.
type Options struct {
	// Broker is HOST:PORT.
	Broker, Topic  string
	User, Password string
	// Period of the status messages; 0: 10 s.
	Period time.Duration
	// MDNS is an address of this machine such as 127.0.0.1:5353: the device answers there, and with that port to the
	// multicast group, who looks for it; empty: nowhere.
	MDNS   string
	Faults peer.Faults
	Seed   uint64
	// Log gets the journal, a line of JSON per entry; nil: none.
	Log io.Writer
}

// Sim is one device.
type Sim struct {
	o       Options
	journal *peer.Journal
	dice    *peer.Dice
	client  paho.Client
	found   *announce.Responder // nil: it is not announced
	began   time.Time

	mu     sync.Mutex
	on     bool
	energy float64
}

// New returns a device; it connects in Run.
func New(o Options) (*Sim, error) {
	if o.Broker == "" {
		o.Broker = "127.0.0.1:1883"
	}
	if o.Topic == "" {
		o.Topic = "shellyplus1pm-000000000001"
	}
	if o.Period == 0 {
		o.Period = 10 * time.Second
	}
	s := &Sim{o: o, journal: peer.NewJournal(o.Log), dice: peer.NewDice(o.Faults, o.Seed), began: time.Now(), energy: 12}
	if o.MDNS == "" {
		return s, nil
	}
	at, err := netip.ParseAddrPort(o.MDNS)
	if err != nil {
		return nil, fmt.Errorf("simulate shelly: mdns address %q: want an IPv4 address and port", o.MDNS)
	}
	both := announce.Service{Name: o.Topic, Host: o.Topic, Port: 80, Address: at.Addr(), Text: []string{"gen=2", "app=Plus1PM", "ver=1.4.4"}}
	shelly, web := both, both
	shelly.Type, web.Type = "_shelly._tcp", "_http._tcp"
	if s.found, err = announce.Listen(o.MDNS, announce.MDNSGroup, announce.MDNS(shelly, web)); err != nil {
		return nil, fmt.Errorf("simulate shelly: %w", err)
	}
	return s, nil
}

// MDNSAddr is where it answers those who look for it; empty: nowhere.
func (s *Sim) MDNSAddr() string {
	if s.found == nil {
		return ""
	}
	return s.found.Addr()
}

// On says whether its relay is.
func (s *Sim) On() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on
}

// Press is somebody at the device's button: the relay toggles.
func (s *Sim) Press() {
	s.mu.Lock()
	s.on = !s.on
	s.mu.Unlock()
	s.say("events/rpc", map[string]any{"src": s.o.Topic, "method": "NotifyEvent", "params": map[string]any{"ts": now(),
		"events": []any{map[string]any{"component": "input:0", "id": 0, "event": "single_push", "ts": now()}}}})
	s.say("status/switch:0", s.relay())
}

func now() float64 { return float64(time.Now().UnixMilli()) / 1000 }

// Run connects, answers and tells its status until ctx ends; a lost connection is tried again.
func (s *Sim) Run(ctx context.Context) error {
	o := peer.MQTT(s.o.Broker, s.o.Topic, s.o.User, s.o.Password).SetWill(s.o.Topic+"/online", "false", 1, true).SetOnConnectHandler(s.connected)
	s.client = paho.NewClient(o)
	s.client.Connect()
	defer s.client.Disconnect(100)
	if s.found != nil {
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { s.found.Run(ctx) })
	}
	tick := time.NewTicker(s.o.Period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.say("status/switch:0", s.relay())
		}
	}
}

func (s *Sim) connected(c paho.Client) {
	s.journal.Add(s.o.Topic, "connected", s.o.Broker)
	c.Subscribe(s.o.Topic+"/rpc", 1, func(_ paho.Client, m paho.Message) { go s.rpc(m.Payload()) })
	c.Publish(s.o.Topic+"/online", 1, true, "true")
}

// say publishes below the device's topic.
func (s *Sim) say(below string, value any) { s.publish(s.o.Topic+"/"+below, value) }

func (s *Sim) publish(topic string, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("simulate shelly: %v", err)) // values are made here
	}
	outcome, wait := s.dice.Throw()
	time.Sleep(wait)
	switch outcome {
	case peer.Silence:
		return
	case peer.Garbage:
		text = s.dice.Noise(len(text))
	}
	if s.client != nil {
		s.client.Publish(topic, 1, false, text)
	}
}

// relay is the status of its switch.
func (s *Sim) relay() map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	power := 0.0
	if s.on {
		power = 61.5
		s.energy += power * s.o.Period.Hours()
	}
	return map[string]any{"id": 0, "source": "MQTT", "output": s.on, "apower": power, "voltage": 231.2, "current": power / 231.2,
		"aenergy": map[string]any{"total": s.energy}, "temperature": map[string]any{"tC": 41.5, "tF": 106.7}}
}

// rpc answers one request.
func (s *Sim) rpc(payload []byte) {
	var q struct {
		ID     int
		Src    string
		Method string
		Params struct {
			ID int
			On *bool
		}
	}
	if json.Unmarshal(payload, &q) != nil || q.Src == "" {
		return
	}
	s.journal.Add(s.o.Topic, "told", q.Method)
	answer := map[string]any{"id": q.ID, "src": s.o.Topic, "dst": q.Src}
	changed := false
	switch {
	case q.Method == "Shelly.GetDeviceInfo":
		answer["result"] = map[string]any{"name": "Simulated", "id": s.o.Topic, "model": "SNSW-001P16EU", "gen": 2, "ver": "1.4.4", "app": "Plus1PM"}
	case q.Method == "Shelly.GetStatus":
		answer["result"] = map[string]any{"switch:0": s.relay(), "input:0": map[string]any{"id": 0, "state": false},
			"sys": map[string]any{"uptime": int(time.Since(s.began).Seconds())}, "wifi": map[string]any{"rssi": -58}}
	case (q.Method == "Switch.Set" || q.Method == "Switch.Toggle") && q.Params.ID == 0 && (q.Params.On != nil || q.Method == "Switch.Toggle"):
		s.mu.Lock()
		was := s.on
		s.on = !was
		if q.Params.On != nil {
			s.on = *q.Params.On
		}
		s.mu.Unlock()
		answer["result"], changed = map[string]any{"was_on": was}, true
	case q.Method == "Switch.Set", q.Method == "Switch.Toggle":
		answer["error"] = map[string]any{"code": -105, "message": fmt.Sprintf("Argument 'id', value %d not found!", q.Params.ID)}
	default:
		answer["error"] = map[string]any{"code": 404, "message": "No handler for " + q.Method}
	}
	if changed {
		s.say("status/switch:0", s.relay())
	}
	s.publish(q.Src+"/rpc", answer)
}
